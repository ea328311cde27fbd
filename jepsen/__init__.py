"""A black-box tester: real servers, injected faults, recorded histories, strict checkers."""
