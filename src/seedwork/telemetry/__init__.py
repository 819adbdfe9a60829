"""What a process tells of its work: lines of its log, and spans of a trace."""
