"""Settings of a run, as data: one frozen object that goes into the run's folder.

A setting has one name everywhere, in `Recipe.override` and as a flag: a field of the recipe or of
its preprocessing (`learning_rate`, `image_size`: --learning-rate, --image-size), or GROUP.NAME
for arguments of the network, the loss, the optimiser and the augmentation (`model.num_bricks`,
`loss.gamma`: --model.num_bricks, --loss.gamma).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from hccr_tf.data.loading.augmentation import RandomAffine
from hccr_tf.data.loading.preprocessing import Preprocessing
from hccr_tf.utils.errors import HccrError, unknown
from hccr_tf.utils.schema import check
from hccr_tf.utils.settings import from_plain, settings_of, to_words

_CHOICES: dict[str, tuple[str | None, ...]] = {
    "schedule": ("constant", "cosine", "halve", "stall"),
    "loss_reduction": ("sum", "mean"),
    "mixed_precision": ("float16", "bfloat16", None),
}
_LEAST = {
    **dict.fromkeys(("batch_size", "epochs", "patience", "passes", "steps_per_execution"), 1),
    **dict.fromkeys(("samples_per_class", "validation_per_class"), 1),
    **dict.fromkeys(("warmup_steps", "first_steps", "seed"), 0),
}


@dataclass(frozen=True)
class Stage:
    """A part of a run in which the same layers learn; each begins with a fresh optimiser.

    The recipe's patience can end it before its epochs. Frozen, so that they don't learn, are all
    layers but the classifier ("backbone"), or so many of the backbone's, from the image on. Their
    batch normalisation works by its moving statistics, which stay as they are. The peak learning
    rate is the recipe's if None.
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
            raise HccrError(f"A stage's learning_rate lies in (0, 1e38), not {self.learning_rate}.")

    def __str__(self) -> str:
        rate = "" if self.learning_rate is None else f":{self.learning_rate}"
        return f"{self.frozen}:{self.epochs}{rate}"


class Stages(tuple[Stage, ...]):
    """Stages of a run; as a text FROZEN:EPOCHS[:RATE] each, such as "backbone:10,100:10:1e-4".

    Raises:
        HccrError: a text of another form, or values that no stage can have.
    """

    def __new__(cls, stages: "str | Iterable[Stage]" = ()):
        """Reads a text ("none" has no stages), or takes stages."""
        if isinstance(stages, str):
            stages = map(cls._stage, () if stages == "none" else stages.split(","))
        return super().__new__(cls, stages)

    @staticmethod
    def _stage(text: str) -> Stage:
        frozen, *numbers = text.split(":")
        try:
            layers = frozen if frozen == "backbone" else int(frozen)
            epochs, *rate = int(numbers[0]), *map(float, numbers[1:])
        except (IndexError, ValueError):
            rate = [0, 0]
        if len(rate) > 1:
            raise HccrError(f"A stage is FROZEN:EPOCHS[:RATE], such as backbone:10, not {text!r}.")
        return Stage(epochs, layers, *rate)

    def __str__(self) -> str:
        return ",".join(map(str, self)) or "none"


@dataclass(frozen=True)
class Recipe:
    """A training run: network, input, loss, optimiser, length.

    Attributes:
        name: as `hccr train` takes it.
        description: one line: what it replicates or is for.
        model: a network of `hccr list`; another than the recipe's comes with its own defaults.
        model_args: the network's own arguments.
        weights: of the backbone of a network of `keras.applications` at the beginning: imagenet,
            none, or a file …_notop.h5.
        init_from: run that it begins with unless another is named; "recogniser" is the package's.
        preprocessing: how images become input, in training and prediction.
        loss: categorical_focal, binary_focal or cross_entropy.
        loss_args: the loss's arguments.
        loss_weights: weight of each output by name, or by a pattern such as "step*"; an exact
            name goes first, and outputs that the model doesn't have are passed over.
        loss_reduction: sum of the weighted losses, or their mean: divided by the sum of the
            weights.
        optimizer: name of a Keras optimiser.
        optimizer_args: its arguments besides the learning rate.
        learning_rate: peak rate.
        schedule: constant; cosine down to zero over all steps; halve after each epoch (Yang et
            al. 2017, section IV-B); or stall: the peak for `first_steps`, then a tenth, and
            another tenth after each epoch whose training accuracy isn't better than all before
            it, down to 1e-6 (Melnyk et al. 2018, section 4.2).
        warmup_steps: steps of linear rise before the schedule begins.
        first_steps: steps at the peak under the schedule stall; none for one epoch, and with 0
            the peak lasts until the first stall.
        augmentation: random maps of training images.
        samples_per_class: images of each class to train on, or all; drawn by the seed so that a
            larger number adds to a smaller one.
        validation_per_class: images of each class to validate on, or all.
        batch_size: samples a step, over all devices together.
        epochs: so many times the network learns, and is validated and saved behind it.
        passes: over the training split in an epoch: of few images and on a fast processor,
            validating and saving after each would take most of the time.
        stages: parts of the run in which other layers learn, FROZEN:EPOCHS[:RATE] each, FROZEN a
            number of the backbone's layers or backbone for all (backbone:10,100:10), none for
            one part. Their epochs together are the run's; the schedule begins anew in each.
        patience: epochs without a better main-output validation accuracy after which the run, or
            the stage, stops.
        seed: of weights, order, dropout and augmentation.
        mixed_precision: float16, bfloat16 or none.
        jit_compile: whether XLA compiles; by default on a GPU and on JAX only, as TensorFlow's
            own kernels are several times faster on a CPU.
        steps_per_execution: steps that go to the processor at once, without a look at the loss
            between them: on a GPU the next one is ready when one ends.
        deterministic: whether runs of one seed repeat bit for bit on one kind of hardware;
            slower. JAX repeats on a CPU without it.
    """

    name: str
    description: str
    model: str
    preprocessing: Preprocessing
    model_args: Mapping[str, Any] = field(default_factory=dict)
    weights: str | None = None
    init_from: str | None = None
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
    passes: int = 1
    stages: Stages = Stages()
    patience: int = 5
    seed: int = 1
    mixed_precision: str | None = None
    jit_compile: bool | None = None
    steps_per_execution: int = 1
    deterministic: bool = False

    def __post_init__(self):
        object.__setattr__(self, "stages", Stages(self.stages))
        for name, least in _LEAST.items():
            if (number := getattr(self, name)) is not None and not least <= number < 1 << 31:
                raise HccrError(f"{name} is at least {least}, and below 2^31, not {number}.")
        for name, choices in _CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                raise unknown(name, str(value), [c or "none" for c in choices])
        if not 0 < self.learning_rate < 1e38:
            raise HccrError(f"learning_rate lies in (0, 1e38), not {self.learning_rate}.")
        if self.stages and self.epochs != (together := sum(s.epochs for s in self.stages)):
            raise HccrError(
                f"The stages of {self.name} have {together} epochs together, not {self.epochs}; "
                "--stages sets them, such as --stages backbone:5,100:10, and --stages none takes "
                "them away."
            )
        if self.stages and self.schedule == "stall":
            raise HccrError('The schedule "stall" looks back on a whole run; it has no stages.')
        if self.schedule == "stall" and self.steps_per_execution > 1:
            raise HccrError(
                'The schedule "stall" sets each step\'s rate: steps_per_execution is 1.'
            )
        if own := {"num_classes", "image_shape", "aux_outputs", "weights"} & set(self.model_args):
            raise HccrError(f"{sorted(own)} are no arguments of a network of one's own.")
        if any(weight < 0 for weight in self.loss_weights.values()):
            raise HccrError(f"Loss weights are at least 0, not {dict(self.loss_weights)}.")
        if self.schedule in ("halve", "stall") and self.warmup_steps:
            raise HccrError(
                f'The schedule "{self.schedule}" begins at its peak; set warmup_steps to 0.'
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, config: Any, source: Any = "recipe") -> "Recipe":
        """Reads `to_dict`'s result; HccrError names the file, `source`, as `from_plain` does."""
        check(config, dict.fromkeys(("preprocessing", "augmentation"), Any), source)
        check(config, {"stages?": list[Any]}, source)
        parts = {
            "preprocessing": Preprocessing.from_dict(config["preprocessing"], source),
            "augmentation": from_plain(RandomAffine, config["augmentation"], source),
            "stages": Stages(from_plain(Stage, part, source) for part in config.get("stages", ())),
        }
        return from_plain(cls, {**config, **parts}, source)

    def override(self, settings: Mapping[str, Any] | None = None, **named) -> "Recipe":
        """Returns a copy with settings changed.

        Another network or optimiser comes with its own arguments; those of the recipe's loss go
        along with another one that has them.

        Args:
            settings: values by name, such as {"model.num_bricks": 4, "image_size": 64}.
            **named: more of them, or whole fields (`model_args`, `preprocessing`, …).

        Raises:
            HccrError: a name that no setting has, or a value that it can't have.
        """
        settings = {**(settings or {}), **named}
        whole = {f.name for f in fields(self)}
        changes: dict[str, Any] = {}
        parts: dict[str, dict[str, Any]] = defaultdict(dict)
        for name in ("model", "optimizer"):
            if settings.get(name, getattr(self, name)) != getattr(self, name):
                changes[f"{name}_args"] = {}
                if name == "model":
                    changes["init_from"] = None
        for name, value in settings.items():
            group, _, argument = name.partition(".")
            if name in _PREPROCESSING:
                parts["preprocessing"][name] = value
            elif argument and (group in OPEN_GROUPS or name in SETTINGS):
                parts[OPEN_GROUPS.get(group, group)][argument] = value
            elif name in whole:
                changes[name] = value
            else:
                raise unknown("setting of a recipe", name, [*SETTINGS, *_OPEN])
        for part, values in parts.items():
            current = changes.get(part, getattr(self, part))
            for output in set(values) - set(current) if part == "loss_weights" else ():
                raise unknown(f"output of {self.name}", output, current)
            mapping = isinstance(current, Mapping)
            changes[part] = {**current, **values} if mapping else replace(current, **values)
        if "stages" in changes and "epochs" not in changes:
            changes["epochs"] = sum(s.epochs for s in Stages(changes["stages"])) or self.epochs
        # Keras is imported here, as the flags of a command that needs none come from this file.
        if "model" in changes and self.weights is not None and "weights" not in changes:
            from hccr_tf.models import takes_weights

            changes["weights"] = self.weights if takes_weights(changes["model"]) else None
        if changes.get("loss", self.loss) != self.loss:
            from hccr_tf.losses import loss_arguments

            # Arguments that were asked for stay, and a loss without them refuses them.
            kept = loss_arguments(changes["loss"]) | set(parts["loss_args"])
            arguments = changes.get("loss_args", self.loss_args)
            changes["loss_args"] = {k: v for k, v in arguments.items() if k in kept}
        return replace(self, **changes)

    def all_stages(self) -> tuple[Stage, ...]:
        """The stages; of a recipe without any, one in which everything learns."""
        return self.stages or (Stage(self.epochs),)

    def output_weights(self, outputs: Iterable[str]) -> dict[str, float]:
        """Weight of each output's loss, by name: `loss_weights` under `loss_reduction`.

        Raises:
            HccrError: an output that the recipe gives no weight, or none for all.
        """
        weights: dict[str, Any] = {}
        for name in outputs:
            matching = [w for p, w in self.loss_weights.items() if fnmatchcase(name, p)]
            weights[name] = self.loss_weights.get(name, next(iter(matching), None))
        if missing := sorted(name for name, weight in weights.items() if weight is None):
            raise HccrError(f"Recipe {self.name} gives no loss weight for the outputs {missing}.")
        if not any(weights.values()):
            raise HccrError(f"Recipe {self.name} gives every output the loss weight 0.")
        total = sum(weights.values()) if self.loss_reduction == "mean" else 1
        return {name: weight / total for name, weight in weights.items()}

    def differences(self, other: "Recipe") -> list[str]:
        """Lines "setting: mine, theirs" for every setting that differs."""
        mine, theirs = _flatten(self.to_dict()), _flatten(other.to_dict())
        pairs = {key: (mine.get(key), theirs.get(key)) for key in sorted(mine | theirs)}
        return [f"{key}: {a!r}, {b!r}" for key, (a, b) in pairs.items() if a != b]


OPEN_GROUPS = {
    "model": "model_args",
    "loss": "loss_args",
    "loss_weights": "loss_weights",
    "optimizer": "optimizer_args",
}
"""Fields whose names aren't known before the network, the loss or the optimiser is."""
_OPEN = [f"{group}.NAME" for group in OPEN_GROUPS]
_PREPROCESSING = settings_of(Preprocessing)
_NO_SETTINGS = {"name", "description", "init_from", "preprocessing", "augmentation"}
_NO_SETTINGS |= set(OPEN_GROUPS.values())
SETTINGS = {
    **{
        name: s
        for name, s in settings_of(Recipe).items()
        if name not in _NO_SETTINGS | set(OPEN_GROUPS.values())
    },
    **_PREPROCESSING,
    **{f"augmentation.{name}": setting for name, setting in settings_of(RandomAffine).items()},
}
"""Settings with a type and a help of their own, by name."""


def flag(name: str) -> str:
    """Writes a setting's name as its flag, such as --batch-size or --model.num_bricks."""
    group, dot, argument = name.partition(".")
    return f"--{group.replace('_', '-')}{dot}{argument}"


def flags(settings: Mapping[str, Any]) -> list[str]:
    """Writes settings, as `Recipe.override` takes them, as words of `hccr train`."""
    words = []
    for name, value in settings.items():
        if name in SETTINGS and isinstance(value, bool):
            words.append(flag(name if value else f"no_{name}"))
        elif name in SETTINGS:
            value = Stages(value) if name == "stages" else value
            words += [flag(name), "none" if value is None else str(value)]
        else:
            words += [flag(name), *to_words(value)]
    return words


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {prefix[:-1]: list(value) if isinstance(value, tuple) else value}
    parts = [_flatten(part, f"{prefix}{name}.") for name, part in value.items()]
    return {name: setting for part in parts for name, setting in part.items()}
