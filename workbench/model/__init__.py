"""The input: ONNX graphs with their provenance, from files, torch modules, factories, and samples."""

from workbench.model.graph import Graph
from workbench.model.model import Model
from workbench.model.node import Node, Tensor
from workbench.model.provenance import Source
from workbench.model.sample_models import samples
from workbench.model.sources import resolve

__all__ = ["Graph", "Model", "Node", "Source", "Tensor", "resolve", "samples"]
