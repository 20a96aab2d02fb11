"""What every layer may use: ids, instants, chance, clocks as protocols, and errors.

Nothing here does I/O. Instants are integers (microseconds of CLOCK_BOOTTIME) so that a decision taken twice from the
same inputs is the same decision to the last digit; wall time exists only for people and is never decided on.
"""
