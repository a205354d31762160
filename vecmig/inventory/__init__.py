"""What is vecmig's in a database, and who may do what with it: for audit, status and uninstall.

Other packages use these modules; the rest is for themselves.
"""

__all__ = ["auditing", "exposure", "protection", "standing", "uninstalling"]
