"""The Node Resource Interface: plugins that hear of pods and containers, and may adjust them. Knows no use case."""
