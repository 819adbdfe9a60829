"""Make a read model anew from the events that it shows: built beside the live one, compared row by row, swapped in."""
