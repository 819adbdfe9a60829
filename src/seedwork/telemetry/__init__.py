"""What a process tells of its work: lines of its log, spans of a trace, metrics, and how it does itself."""
