"""agentkit's own tools. They register through the ``agentkit.tools`` entry points, like anybody's plugin."""
