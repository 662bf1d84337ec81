"""What an operator can mend: the command line prints it as one sentence and not as a traceback.

OperatorError
├── BadSettings               a variable is missing, wrong or unknown        (worker/settings.py)
├── TemporalAway              Temporal does not answer                       (worker/temporal.py)
└── SearchAttributesRefused   the server does not let us register them       (worker/temporal.py)
"""

from __future__ import annotations


class OperatorError(Exception):
    """One sentence that says what to do."""
