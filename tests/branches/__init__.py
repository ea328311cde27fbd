"""Which branches of the packages under the consensus no test takes, and why."""
