"""Which classes count as the plain form of their parents.

Kernels, closed forms and fine-tuning do not call ``step`` or ``run``: they read a neuron's threshold or a layer's
weights and compute the same result in another way. This is correct for the class that declares it, and wrong for a
subclass that behaves differently. So a subclass that overrides behaviour loses its parents' claims, unless it repeats
them.
"""

from typing import Any, ClassVar, TypeGuard, TypeVar, overload

from transpike.core.renamed import CurrentSettings

Kind = TypeVar("Kind")
Other = TypeVar("Other")


class Plain(CurrentSettings):
    """Base of all classes that users may subclass and that engines may have special code for.

    A class that defines ``behaviour`` is concrete. A subclass of a concrete class is *altered* if it overrides a
    method or property that is neither in ``free`` (descriptions, bounds) nor in ``claims`` (the same behaviour in
    another form). An altered class has only the claims that it defines itself; ``withdraw`` replaces the others. To
    repeat a claim, name it in the class: ``absorb = Linear.absorb``.

    ``plain = True`` in the class itself declares that it behaves as its parent, whatever it overrides outside
    ``behaviour``. Raises TypeError together with an override of the behaviour.
    """

    plain: ClassVar[bool] = False
    behaviour: ClassVar[tuple[str, ...]] = ()
    claims: ClassVar[tuple[str, ...]] = ()
    free: ClassVar[tuple[str, ...]] = ()
    altered: ClassVar[tuple[str, ...]] = ()
    """The overrides of a concrete parent in the class itself; empty if it counts as the plain form of its parent."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.altered = ()
        parents = [parent for parent in cls.__mro__[1:] if _is_concrete(parent)]
        own = _own_members(cls, parents)
        changed = tuple(name for name, value in own.items() if _overrides(cls, name, value, parents))
        if cls.__dict__.get("plain", False):
            if broken := [name for name in changed if name in cls.behaviour]:
                raise TypeError(
                    f"{cls.__name__} says plain = True and overrides {_names(broken)} of {parents[0].__name__}: a "
                    "class that behaves differently is not the plain form of its parent; remove plain = True"
                )
        elif changed:
            cls.altered = changed
            for name in cls.claims:
                if name not in own:
                    cls.withdraw(name, parents[0])

    @classmethod
    def withdraw(cls, name: str, parent: type) -> None:
        """Replace the ``parent``'s claim by the default for altered classes."""
        raise TypeError(f"{cls.__name__} must define withdraw()")


@overload
def is_plain(value: object, kind: type[Kind]) -> TypeGuard[Kind]: ...
@overload
def is_plain(value: object, kind: tuple[type[Kind], type[Other]]) -> TypeGuard[Kind | Other]: ...
@overload
def is_plain(value: object, kind: tuple[type, ...]) -> bool: ...
def is_plain(value: object, kind: Any) -> bool:
    """True for a ``kind`` that behaves as that class does, so that special code for the class applies.

    False for an instance of a subclass that overrides behaviour.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return any(_is_plain(type(value), one) for one in kinds)


def _is_plain(found: type, kind: type) -> bool:
    if not issubclass(found, kind):
        return False
    between = found.__mro__[: found.__mro__.index(kind)]
    return not any(one.__dict__.get("altered") for one in between)


def _is_concrete(parent: type) -> bool:
    """True if a class implements its behaviour, and not only inherits that of the contract."""
    if not issubclass(parent, Plain) or not parent.behaviour:
        return False
    root = next(one for one in reversed(parent.__mro__) if "behaviour" in one.__dict__ and one is not Plain)
    name = parent.behaviour[0]
    return getattr(parent, name) is not getattr(root, name)


def _own_members(cls: type[Plain], parents: list[type]) -> dict[str, Any]:
    """What the class has before its first concrete parent: its own members, and those of mixins."""
    inherited = parents[0].__mro__ if parents else cls.__mro__[1:]
    before = [one for one in cls.__mro__ if one not in inherited]
    return {name: value for one in reversed(before) for name, value in vars(one).items()}


def _overrides(cls: type[Plain], name: str, value: Any, parents: list[type]) -> bool:
    """True if a member of the class overrides behaviour of a concrete parent."""
    if name.startswith("__") or name in cls.free or (name in cls.claims and name not in cls.behaviour):
        return False
    is_function = hasattr(type(value), "__get__") or (callable(value) and not isinstance(value, type))
    return is_function and any(hasattr(parent, name) for parent in parents)


def _names(names: list[str]) -> str:
    return " and ".join(f"{name}()" for name in names)
