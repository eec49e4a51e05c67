"""What the papers prove, as functions of the errors that they assume."""
