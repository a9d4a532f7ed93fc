"""What a run is made of, as data: one frozen object that goes into the run's folder."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.utils.errors import HccrError

SCHEDULES = ("constant", "cosine", "halve", "stall")
LOSS_REDUCTIONS = ("sum", "mean")


@dataclass(frozen=True)
class Stage:
    """A part of a run in which the same layers learn; each begins with a fresh optimiser.

    Attributes:
        epochs: its length at most; the recipe's patience can end it earlier.
        frozen: which layers don't learn: "backbone" for all but the classifier, or how many of
            the backbone's, from the image on. Their batch normalisation works by its moving
            statistics, which stay as they are.
        learning_rate: peak rate; the recipe's if None.
    """

    epochs: int
    frozen: str | int = 0
    learning_rate: float | None = None

    @property
    def description(self) -> str:
        """Says in words what learns, and for how long."""
        learning = {"backbone": "the classifier learns", 0: "all layers learn"}.get(
            self.frozen, f"all but the backbone's first {self.frozen} layers learn"
        )
        return f"{learning}, for at most {self.epochs} epoch{'s' if self.epochs > 1 else ''}"

    def __post_init__(self):
        if self.epochs < 1:
            raise HccrError(f"A stage has at least 1 epoch, not {self.epochs}.")
        if self.frozen != "backbone" and not (isinstance(self.frozen, int) and self.frozen >= 0):
            raise HccrError(
                'Frozen in a stage is "backbone" or a number of layers of at least 0, not '
                f"{self.frozen!r}."
            )
        if self.learning_rate is not None and self.learning_rate <= 0:
            raise HccrError(f"A stage's learning_rate is above 0, not {self.learning_rate}.")


@dataclass(frozen=True)
class Recipe:
    """A training run: network, input, loss, optimiser, length.

    Attributes:
        name: as `hccr train` takes it.
        description: one line: what it replicates or is for.
        model: a registered model.
        model_args: the model's own arguments.
        weights: what the backbone of a network of `keras.applications` begins with, as
            `create_model` takes it.
        preprocessing: how images become input, in training and prediction.
        loss: one of `hccr_tf.losses.LOSSES`.
        loss_args: the loss's arguments.
        loss_weights: weight of each output by name, or by a pattern such as "step*"; an exact
            name goes first, and outputs that the model doesn't have are passed over.
        loss_reduction: "sum" of the weighted losses, or their "mean": divided by the sum of the
            weights.
        optimizer: name of a Keras optimiser.
        optimizer_args: its arguments besides the learning rate.
        learning_rate: peak rate.
        schedule: "constant"; "cosine" down to zero over all steps; "halve" after each epoch
            (Yang et al. 2017, section IV-B); or "stall": the peak for `first_steps`, then a
            tenth, and another tenth after each epoch whose training accuracy isn't better than
            all before it, down to 1e-6 (Melnyk et al. 2018, section 4.2).
        warmup_steps: steps of linear rise before the schedule begins.
        first_steps: steps at the peak under "stall"; None for one epoch, and with 0 the peak
            lasts until the first stall.
        augmentation: random maps of training images.
        samples_per_class: how many images of each class are trained on, drawn by the seed so
            that a larger number adds to a smaller one; all if None.
        validation_per_class: how many of each class validate; all if None.
        batch_size: samples a step, over all devices together.
        epochs: passes over the training split.
        stages: parts of the run in which other layers learn, one after another; their epochs
            together are the recipe's. The schedule begins anew in each.
        patience: epochs without a better main-output validation accuracy after which
            the run, or the stage, stops.
        seed: of weights, order, dropout and augmentation.
        mixed_precision: "float16", "bfloat16" or None.
        jit_compile: XLA; None compiles on a GPU and on JAX only: on a CPU TensorFlow's
            own kernels are several times faster.
        deterministic: whether runs of one seed repeat bit for bit on one kind of hardware;
            slower. JAX repeats on a CPU without it.
    """

    name: str
    description: str
    model: str
    preprocessing: Preprocessing
    model_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    loss: str = "categorical_focal"
    loss_args: Mapping[str, Any] = field(default_factory=dict)
    loss_weights: Mapping[str, float] = field(default_factory=lambda: {"main_output": 1.0})
    loss_reduction: str = "sum"
    optimizer: str = "adam"
    optimizer_args: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    first_steps: int | None = None
    augmentation: RandomAffine = field(default_factory=RandomAffine)
    samples_per_class: int | None = None
    validation_per_class: int | None = None
    batch_size: int = 128
    epochs: int = 20
    stages: tuple[Stage, ...] = ()
    patience: int = 5
    seed: int = 1
    mixed_precision: str | None = None
    jit_compile: bool | None = None
    deterministic: bool = False

    def __post_init__(self):
        for name in ("batch_size", "epochs", "patience"):
            if getattr(self, name) < 1:
                raise HccrError(f"{name} is at least 1, not {getattr(self, name)}.")
        for name in ("samples_per_class", "validation_per_class"):
            if (number := getattr(self, name)) is not None and number < 1:
                raise HccrError(f"{name} is at least 1, not {number}.")
        if self.stages and self.epochs != (together := sum(s.epochs for s in self.stages)):
            raise HccrError(
                f"The stages of {self.name} have {together} epochs together, not {self.epochs}; "
                "--stages sets them, such as --stages backbone:5,100:10, and --stages none takes "
                "them away."
            )
        if self.stages and self.schedule == "stall":
            raise HccrError('The schedule "stall" looks back on a whole run; it has no stages.')
        if own := {"num_classes", "image_shape", "aux_outputs", "weights"} & set(self.model_args):
            raise HccrError(f"{sorted(own)} are no arguments of a network of one's own.")
        if self.schedule not in SCHEDULES:
            raise HccrError(f"schedule is one of {SCHEDULES}, not {self.schedule!r}.")
        if any(weight < 0 for weight in self.loss_weights.values()):
            raise HccrError(f"Loss weights are at least 0, not {dict(self.loss_weights)}.")
        if self.loss_reduction not in LOSS_REDUCTIONS:
            raise HccrError(
                f"loss_reduction is one of {LOSS_REDUCTIONS}, not {self.loss_reduction!r}."
            )
        if self.schedule in ("halve", "stall") and self.warmup_steps:
            raise HccrError(
                f'The schedule "{self.schedule}" begins at its peak; set warmup_steps to 0.'
            )
        if self.first_steps is not None and self.first_steps < 0:
            raise HccrError(f"first_steps is at least 0, not {self.first_steps}.")
        if self.mixed_precision not in (None, "float16", "bfloat16"):
            raise HccrError(
                f'mixed_precision is "float16" or "bfloat16", not {self.mixed_precision!r}.'
            )
        if self.learning_rate <= 0 or self.warmup_steps < 0 or self.seed < 0:
            raise HccrError("learning_rate is above 0, warmup_steps and seed at least 0.")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> "Recipe":
        """Reads `to_dict`'s result.

        Raises:
            HccrError: a setting that this version doesn't know.
        """
        config = dict(config)
        if config.pop("device_preprocessing", False):
            raise HccrError(
                "This recipe has device_preprocessing, which there isn't any more: images are "
                "prepared on the host alone. Train it anew."
            )
        unknown = set(config) - {f.name for f in fields(cls)}
        if unknown:
            raise HccrError(
                f"This recipe has settings unknown here: {sorted(unknown)}. It was made by "
                "another version of hccr_tf."
            )
        config["preprocessing"] = Preprocessing.from_dict(config["preprocessing"])
        config["augmentation"] = RandomAffine(**config["augmentation"])
        config["stages"] = tuple(Stage(**stage) for stage in config.get("stages", ()))
        return cls(**config)

    def override(self, **settings) -> "Recipe":
        """A copy with settings changed; those that are None are left as they are.

        Args:
            **settings: fields of the recipe, or the short names of `SHORT_NAMES`
                (`image_size`, `gamma`, `bricks`, …) for what lies inside one.

        Raises:
            HccrError: a name that is neither.
        """
        own = {f.name for f in fields(self)}
        changes: dict[str, Any] = {}
        if settings.get("model") not in (None, self.model):
            changes["model_args"] = {}  # those of the recipe's network
        for name, value in settings.items():
            if value is None:
                continue
            if name in SHORT_NAMES:
                outer, inner = SHORT_NAMES[name]
                current = changes.get(outer, getattr(self, outer))
                if outer == "loss_weights" and inner not in current:
                    raise HccrError(f"Recipe {self.name} has no outputs {inner!r} to weigh.")
                if isinstance(current, Preprocessing | RandomAffine):
                    changes[outer] = replace(current, **{inner: value})
                else:
                    changes[outer] = {**current, inner: value}
            elif name in own:
                changes[name] = value
            else:
                raise HccrError(
                    f"A recipe has no setting {name!r}; it has {sorted(own | set(SHORT_NAMES))}."
                )
        if "stages" in changes and "epochs" not in changes:
            changes["epochs"] = sum(s.epochs for s in changes["stages"]) or self.epochs
        if changes.get("weights") == "none":
            changes["weights"] = None
        for name in ("samples_per_class", "validation_per_class"):
            if changes.get(name) == "all":
                changes[name] = None
        if "model" in changes and self.weights is not None and "weights" not in changes:
            # Here, as it imports Keras, which most commands don't need so early.
            from hccr_tf.models import takes_weights

            if not takes_weights(changes["model"]):
                changes["weights"] = None
        if changes.get("loss", self.loss) != self.loss:
            from hccr_tf.losses import loss_arguments

            # γ and α of the recipe's loss go along only where the new one has them; those
            # that were asked for stay, and a loss without them refuses them.
            asked = {SHORT_NAMES[n][1] for n in ("gamma", "alpha") if settings.get(n) is not None}
            kept = loss_arguments(changes["loss"]) | asked
            arguments = changes.get("loss_args", self.loss_args)
            changes["loss_args"] = {k: v for k, v in arguments.items() if k in kept}
        return replace(self, **changes)

    def all_stages(self) -> tuple[Stage, ...]:
        """The stages; of a recipe without any, one in which everything learns."""
        return self.stages or (Stage(self.epochs),)

    def output_weights(self, outputs: Iterable[str]) -> dict[str, float]:
        """Weight of each output's loss: `loss_weights` under `loss_reduction`.

        Args:
            outputs: names of a model's outputs.

        Raises:
            HccrError: one that the recipe gives no weight.
        """
        weights, missing = {}, []
        for name in outputs:
            patterns = [p for p in self.loss_weights if p == name or fnmatchcase(name, p)]
            if patterns:
                weights[name] = self.loss_weights[name if name in patterns else patterns[0]]
            else:
                missing.append(name)
        if missing:
            raise HccrError(
                f"Recipe {self.name} gives no loss weight for the outputs {sorted(missing)}."
            )
        if not any(weights.values()):
            raise HccrError(f"Recipe {self.name} gives every output the loss weight 0.")
        total = sum(weights.values()) if self.loss_reduction == "mean" else 1
        return {name: weight / total for name, weight in weights.items()}

    def differences(self, other: "Recipe") -> list[str]:
        """Lines "setting: mine, theirs" for every setting that differs."""
        mine, theirs = _flatten(self.to_dict()), _flatten(other.to_dict())
        return [
            f"{key}: {mine.get(key)!r}, {theirs.get(key)!r}"
            for key in sorted(mine | theirs)
            if mine.get(key) != theirs.get(key)
        ]


# Short names for settings inside a field: (field, setting).
SHORT_NAMES = {
    "gamma": ("loss_args", "gamma"),
    "alpha": ("loss_args", "alpha"),
    "image_size": ("preprocessing", "image_size"),
    "border": ("preprocessing", "border"),
    "crop_ink": ("preprocessing", "crop_ink"),
    "blur_kernel": ("preprocessing", "blur_kernel"),
    "blur_sigma": ("preprocessing", "blur_sigma"),
    "blur_size": ("preprocessing", "blur_size"),
    "bricks": ("model_args", "num_bricks"),
    "width": ("model_args", "width"),
    "aux_heads": ("model_args", "aux_heads"),
    "refinement_steps": ("model_args", "steps"),
    "attention_width": ("model_args", "attention_width"),
    "step_loss": ("loss_weights", "step*"),
    "augment_amount": ("augmentation", "amount"),
    "augment_shift": ("augmentation", "shift"),
}


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def parse_stages(text: str) -> tuple[Stage, ...]:
    """Stages from a text such as "backbone:10,100:10:1e-4": FROZEN:EPOCHS[:RATE] each; "none".

    Raises:
        HccrError: another form, or values that no stage can have.
    """
    stages = []
    for part in () if text == "none" else text.split(","):
        frozen, *numbers = part.split(":")
        if not 1 <= len(numbers) <= 2:
            raise HccrError(f"A stage is FROZEN:EPOCHS[:RATE], such as backbone:10, not {part!r}.")
        stages.append(
            Stage(
                int(numbers[0]),
                frozen if frozen == "backbone" else int(frozen),
                float(numbers[1]) if len(numbers) == 2 else None,
            )
        )
    return tuple(stages)


def stages_text(stages: tuple[Stage, ...]) -> str:
    """Stages as `parse_stages` reads them."""
    parts = []
    for stage in stages:
        rate = "" if stage.learning_rate is None else f":{stage.learning_rate:g}"
        parts.append(f"{stage.frozen}:{stage.epochs}{rate}")
    return ",".join(parts) or "none"


def _number_or_all(text: str) -> int | str:
    return text if text == "all" else int(text)


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


# What a command line can override: type and help of each setting.
OVERRIDES: dict[str, tuple[Callable[[str], Any] | type, str]] = {
    "model": (str, "another network of `hccr list`, with its own defaults"),
    "weights": (
        str,
        "what a backbone of keras.applications begins with: imagenet, none, or a file …_notop.h5",
    ),
    "loss": (str, "categorical_focal, binary_focal or cross_entropy"),
    "gamma": (float, "γ of the focal loss"),
    "alpha": (_number_or_name, "α of the focal loss, a number or class_frequency"),
    "epochs": (int, "passes over the training split"),
    "patience": (int, "epochs without a better validation accuracy before stopping"),
    "stages": (
        parse_stages,
        "parts of the run, FROZEN:EPOCHS[:RATE] each, FROZEN a number of "
        "the backbone's layers or backbone for all: backbone:10,100:10; none for one part",
    ),
    "samples_per_class": (_number_or_all, "images of each class to train on, or all"),
    "validation_per_class": (_number_or_all, "images of each class to validate on, or all"),
    "batch_size": (int, "samples a step"),
    "learning_rate": (float, "peak rate"),
    "schedule": (str, "constant, cosine, halve or stall"),
    "warmup_steps": (int, "steps of linear rise before the schedule begins"),
    "first_steps": (int, "steps at the peak rate under the schedule stall (default: one epoch)"),
    "image_size": (int, "side of the network's input, pixels"),
    "bricks": (int, "number of bricks, 2 to 5"),
    "width": (int, "filters of the first brick"),
    "border": (float, "white on each side, fraction of the side"),
    "crop_ink": (bool, "cut away the image's own margin first"),
    "aux_heads": (_numbers, "bricks with an auxiliary head, as 2,3 (default: all full bricks)"),
    "refinement_steps": (int, "T, how often refinement reads"),
    "attention_width": (int, "A, width of refinement's attention"),
    "step_loss": (float, "weight of earlier steps' losses: 1 for the mean, 0 for the last only"),
    "blur_kernel": (int, "side of the Gaussian kernel, pixels; 0 for none"),
    "blur_sigma": (float, "its standard deviation, pixels"),
    "blur_size": (int, "size at which to blur, before resizing to --image-size"),
    "augment_amount": (float, "spread of random affine maps, 0 for none"),
    "augment_shift": (float, "spread of random shifts, fraction of the side"),
    "seed": (int, "of weights, order, dropout and augmentation"),
    "mixed_precision": (str, "bfloat16 or float16"),
    "jit_compile": (bool, "compile with XLA (default: on a GPU and on JAX)"),
    "deterministic": (bool, "repeat bit for bit on a CPU (slower)"),
}


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat.update(_flatten(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
