"""Tests of lowconmon.syscalls with real objects; they need pytest alone, and run anywhere."""
