"""Named runs of one function: recorded once, resumed, spread over workers."""
