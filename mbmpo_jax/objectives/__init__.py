"""What is optimised: returns, advantages, policy-gradient objectives."""
