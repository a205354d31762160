"""The verbs, a module each: what the command line and ``vecmig.runner`` run."""
