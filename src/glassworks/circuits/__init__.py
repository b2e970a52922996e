"""Which edges of a model carry a behaviour: Edge Pruning and its peers, faithfulness, drawings of circuits."""
