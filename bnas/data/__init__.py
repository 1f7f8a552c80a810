"""The name of a data set -> its training, validation and test images, ready to iterate in batches.

`load_data` takes `digits` (embedded), `mnist` or `cifar10`, the path of an image folder or of Parquet files, a hub
name, or `pkg.mod:attr`. The folder that the environment variable BNAS_DATA names holds
`mnist/{train,t10k}-{images-idx3,labels-idx1}-ubyte.gz` and `cifar10/{train,test}.parquet`.
"""

from bnas.data.augment import AUGMENTATIONS as AUGMENTATIONS
from bnas.data.dataset import DataSet as DataSet
from bnas.data.dataset import from_arrays as from_arrays
from bnas.data.load import DATA_SETS as DATA_SETS
from bnas.data.load import load_data as load_data
from bnas.data.split import Split as Split
