"""Files that travel: packs, streams, exports, the test data of others."""
