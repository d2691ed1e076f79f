"""Carrying foreign code: a child process, adapters, installed runtimes."""
