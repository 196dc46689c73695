"""A user's own model in a file of Keras 3 or Keras 2."""

from pathlib import Path
from types import ModuleType

from export.convert.original import Layout, Original
from export.errors import ExportError, OwnCode, UnreadableFile
from export.sources import keras_archive, keras_model, teachable_machine_layers
from export.sources.keras_archive import KerasArchive
from export.sources.keras_model import Model, Size
from export.sources.model_file import digest

#: The version of Keras that reads .keras and .h5 as Keras 3 does; files of older ones go to tf-keras.
KERAS_3 = 3


def load(path: Path, *, layout: Layout | None = None, size: Size | None = None) -> Original:
    """Raises UnreadableFile, UnsafeFile, NotAClassifier, BadArgument."""
    archive = keras_archive.read(path)
    source = {"file": path.name, "sha256": digest(path), "keras_major": str(archive.major)}
    if archive.trained_in is not None:
        source["trained_in"] = archive.trained_in
    original = keras_model.original(_model(archive), source=source, layout=layout, size=size, loss=archive.loss)
    return teachable_machine_layers.recognised(original, archive.config)


def _model(archive: KerasArchive) -> Model:
    try:
        with archive.loadable() as file:
            if archive.major >= KERAS_3:
                import keras
                from keras.src.applications import convnext, inception_resnet_v2

                own = _application_layers(convnext, inception_resnet_v2)
                return keras.saving.load_model(file, custom_objects=own, compile=False, safe_mode=True)
            import tf_keras
            from tf_keras.src.applications import convnext, inception_resnet_v2

            own = _application_layers(convnext, inception_resnet_v2)
            return tf_keras.models.load_model(file, custom_objects=own, compile=False, safe_mode=True)
    except ExportError:
        raise
    # What a file of another version raises is up to every layer's constructor.
    except Exception as error:
        raise _unreadable(archive, error) from error


def _application_layers(convnext: ModuleType, inception_resnet_v2: ModuleType) -> dict[str, type]:
    """Layers of keras.applications that Keras stores in an .h5 by a name which it does not know itself."""
    layers = (convnext.LayerScale, convnext.StochasticDepth, inception_resnet_v2.CustomScaleLayer)
    return {layer.__name__: layer for layer in layers}


def _unreadable(archive: KerasArchive, error: Exception) -> ExportError:
    text = " ".join(str(error).split())
    if "custom_object" in text or "Unknown layer" in text or "Could not locate" in text:
        return OwnCode(
            f"{archive.path} uses a layer or function of your own ({_short(text)}), whose code is not in the file"
        )
    as_keras = f'. Keras 3 can\'t load every .h5 that it writes: use model.save("{archive.path.stem}.keras")'
    advice = as_keras if archive.major >= KERAS_3 and not archive.zipped else ""
    return UnreadableFile(
        f"{archive.path} can't be read as a Keras {archive.major} model: {type(error).__name__}: {text}{advice}"
    )


def _short(text: str) -> str:
    """The first sentence."""
    return text.partition(". ")[0]
