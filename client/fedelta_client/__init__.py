"""The client: a runtime process that talks to the coordinator, and a trainer process that runs the learner."""
