"""Overload: new commands are refused before their body is read while those accepted cannot end in time."""
