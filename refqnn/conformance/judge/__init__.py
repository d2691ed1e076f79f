"""Comparing, diagnosing, identifying and checking another implementation."""
