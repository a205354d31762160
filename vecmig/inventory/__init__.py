"""What is vecmig's in a database, who may do what with it, and which vectors are not vecmig's.

Other packages use these modules; the rest is for themselves.
"""

__all__ = [
    "auditing",
    "discovering",
    "exposure",
    "layouts",
    "proposing",
    "protection",
    "standing",
    "uninstalling",
    "vector_tables",
]
