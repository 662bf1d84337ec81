"""Acts: one port call each, idempotent, with a permit, a receipt and a verify."""
