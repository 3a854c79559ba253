"""Engines behind :class:`iotbill_pipelines.engine.compute.Compute`; nothing else imports them."""
