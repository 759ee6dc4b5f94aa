"""What to type, command by command: ``--help`` ends with it, and docs/COMMANDS.md shows it."""

EXAMPLES = {
    "demo": """
# everything in a folder of its own
embedonce demo -o demo
""",
    "extract": """
# embed a folder of images; again, only what is new or changed
embedonce extract photos photos.h5
# with weights from a file, where there is no network
embedonce extract photos photos.h5 --weights mobilenet_v2.weights.h5
# very many images into a folder of shards, on a cluster
embedonce extract photos photos.cache/ --dask tcp://host:8786
""",
    "info": """
# what is in it, for people and for scripts
embedonce info photos.h5
# how many images of each class
embedonce info photos.h5 --json
""",
    "verify": """
# every checksum, and a sample embedded anew
embedonce verify photos.h5
# also whether it is up to date with its folder
embedonce verify photos.h5 --images photos
""",
    "doctor": """
# whether everything works here
embedonce doctor
# in the folder where the cache is to be, with weights from a file
embedonce doctor /data --weights mobilenet_v2.weights.h5
""",
    "pack": """
# one file to copy elsewhere
embedonce pack photos.cache photos.h5
""",
    "groups": """
# look for copies of one original
embedonce groups photos.h5 -o groups.csv
# see the largest and the most doubtful groups
embedonce groups photos.h5 -o groups.csv --report groups
""",
    "train": """
# a softmax head, as a whole image-to-class model
embedonce train photos.h5 --head softmax -o softmax.keras
# a head with a parameter of your choice, on all images
embedonce train photos.h5 --head svm -p C=10 --split none -o svm.skops
""",
    "compare": """
# the usual heads on honest splits, with a report
embedonce compare photos.h5 -o runs/photos
# cross-validation that keeps patients together
embedonce compare photos.h5 --folds 5 --groups patients.csv -o runs/patients
# heads with parameters, from a file; exit status 1 below 90 %
embedonce compare --config heads.toml --fail-under accuracy=0.9
""",
    "tune": """
# an hour of search for the svm
embedonce tune photos.h5 --head svm --budget 3600 -o runs/svm
# values of your own
embedonce tune photos.h5 --head logreg --space C=0.01,0.1,1 -o runs/logreg
""",
    "diff": """
# what a change made better or worse
embedonce diff runs/before runs/after
""",
    "init": """
# a file to edit, then to run
embedonce init heads.toml
""",
    "evaluate": """
# on the images that it was not trained on
embedonce evaluate svm.skops photos.h5
# on another data set
embedonce evaluate svm.skops others.h5
""",
    "predict": """
# an image, or a folder
embedonce predict softmax.keras new/a.jpg
# the two likeliest classes of every image, as a table
embedonce predict svm.skops new --top 2 --csv
""",
    "explain": """
# where the model looked
embedonce explain softmax.keras new/a.jpg -o a.png
# what speaks for another class
embedonce explain softmax.keras new/a.jpg --class birch -o birch.png
""",
    "export": """
# for Keras, without embedonce
embedonce export svm.skops -o svm.keras
# for phones and small computers
embedonce export softmax.keras -o softmax.tflite
""",
    "finetune": """
# the last twenty layers, from an exported model
embedonce finetune photos --from softmax.keras --unfreeze 20 -o tuned.keras
""",
}
