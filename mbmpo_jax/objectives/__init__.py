"""Objectives and losses: returns, advantages, policy gradients, critics."""
