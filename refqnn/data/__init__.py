"""Readers of image data sets, one's own among them; textures, augmentation.

Images are ``(N, C, H, W)``, uint8 where they come from files; labels are int64. No
reader unpickles anything.
"""

from refqnn.data.drawing import balanced_subset as balanced_subset
from refqnn.data.drawing import batches as batches
from refqnn.data.drawing import crop_and_flip as crop_and_flip
from refqnn.data.drawing import halve as halve
from refqnn.data.drawing import smooth_planes as smooth_planes
from refqnn.data.drawing import textures as textures
from refqnn.data.images import Dataset as Dataset
from refqnn.data.images import as_images as as_images
from refqnn.data.images import as_labels as as_labels
from refqnn.data.images import checked_labels as checked_labels
from refqnn.data.images import dataset as dataset
from refqnn.data.own import Folder as Folder
from refqnn.data.own import read_arrays as read_arrays
from refqnn.data.own import read_dataset as read_dataset
from refqnn.data.own import read_folder as read_folder
from refqnn.data.published import FASHION_MNIST_CLASSES as FASHION_MNIST_CLASSES
from refqnn.data.published import FASHION_MNIST_SHA256 as FASHION_MNIST_SHA256
from refqnn.data.published import IMAGE_OPTIONS as IMAGE_OPTIONS
from refqnn.data.published import cifar_images as cifar_images
from refqnn.data.published import cifar_records as cifar_records
from refqnn.data.published import embedded as embedded
from refqnn.data.published import fashion_mnist as fashion_mnist
from refqnn.data.published import idx_file as idx_file
from refqnn.data.published import labelled_idx as labelled_idx
from refqnn.data.published import names_of_other_files as names_of_other_files
from refqnn.data.published import read_cifar10 as read_cifar10
from refqnn.data.published import read_cifar100 as read_cifar100
from refqnn.data.published import read_idx as read_idx
from refqnn.data.published import read_images as read_images
from refqnn.data.published import source as source
from refqnn.data.published import write_subset as write_subset
from refqnn.files import read_npz as read_npz
