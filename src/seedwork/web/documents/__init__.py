"""Write down what callers may rely on, from the code; used by developers and tests, never at run time."""
