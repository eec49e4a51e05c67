"""DDPG (Lillicrap et al. 2016), and TD3 (Fujimoto et al. 2018)."""
