"""A name, a path or arrays -> training, validation and test images, ready to iterate in batches.

`load_data` takes `digits` (embedded), `mnist`, `cifar10` or `sketches`, the path of an image folder, of Parquet, CSV or
.npz files, a hub name, `pkg.mod:attr`, or an object that holds the images. The folder that the environment variable
BNAS_DATA names holds `mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz`, `cifar10/{train,test}.parquet` and
`sketches/{train,test}.parquet`.
"""

from bnas.data.dataset import DataSet as DataSet
from bnas.data.facts import check_same_images as check_same_images
from bnas.data.load import DATA_SETS as DATA_SETS
from bnas.data.load import Glance as Glance
from bnas.data.load import glance_at as glance_at
from bnas.data.load import load_data as load_data
from bnas.data.resize import MixedSizes as MixedSizes
from bnas.data.split import Split as Split
from bnas.data.transforms import AUGMENTATIONS as AUGMENTATIONS
from bnas.data.transforms import NORMALISATIONS as NORMALISATIONS
from bnas.data.user_objects import from_arrays as from_arrays
