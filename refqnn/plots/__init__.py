"""Every figure the project draws, from plain arrays; each function returns a Figure.

Figures are drawn without a window system and shown by nobody: ``save`` them.
"""

from refqnn.plots.gallery import GalleryPage as GalleryPage
from refqnn.plots.gallery import Transfer as Transfer
from refqnn.plots.gallery import gallery_page as gallery_page
from refqnn.plots.layers import LayerBars as LayerBars
from refqnn.plots.layers import LayerBits as LayerBits
from refqnn.plots.layers import allocation as allocation
from refqnn.plots.layers import bit_allocations as bit_allocations
from refqnn.plots.layers import pruning as pruning
from refqnn.plots.networks import Decisions as Decisions
from refqnn.plots.networks import LayerCodes as LayerCodes
from refqnn.plots.networks import demo as demo
from refqnn.plots.pareto import SizeCurve as SizeCurve
from refqnn.plots.pareto import SizePanel as SizePanel
from refqnn.plots.pareto import clip_lines as clip_lines
from refqnn.plots.pareto import layer_variances as layer_variances
from refqnn.plots.pareto import size_curves as size_curves
from refqnn.plots.quantizer import transfer as transfer
from refqnn.plots.routing import controller as controller
from refqnn.plots.routing import decisions as decisions
from refqnn.plots.routing import tradeoff as tradeoff
from refqnn.plots.routing import tradeoff_panels as tradeoff_panels
from refqnn.plots.search import search_fronts as search_fronts
from refqnn.plots.search import subnet_scales as subnet_scales
from refqnn.plots.style import save as save
from refqnn.plots.variance import magnitude_variance as magnitude_variance
