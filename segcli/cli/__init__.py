"""The command line: parse, one call, render, exit. One command a file."""
