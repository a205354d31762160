"""The pure values that everything is made of: tags, recipes, gates and collections."""

from vecmig.model.collection import (
    INDEX_DIMS,
    LIVE_OWN,
    VECTOR_COLUMNS,
    ChangeTracking,
    Collection,
    Hnsw,
    LiveColumns,
    Metric,
    Storage,
    index_problem,
)
from vecmig.model.gate import Gate, MinSamples, NoWorse, Trust
from vecmig.model.recipe import (
    OPENAI_KEY,
    Chunking,
    Normalise,
    Problem,
    Recipe,
    Service,
    TooLong,
    Unit,
    cost_usd,
    is_openai,
    recipe_problems,
)
from vecmig.model.recipe_fields import PROVIDERS
from vecmig.model.tag import MAX_DIMS, MAX_TAG_LENGTH, NORM_TOLERANCE, Norm, Tag

__all__ = [
    "INDEX_DIMS",
    "LIVE_OWN",
    "MAX_DIMS",
    "MAX_TAG_LENGTH",
    "NORM_TOLERANCE",
    "OPENAI_KEY",
    "PROVIDERS",
    "VECTOR_COLUMNS",
    "ChangeTracking",
    "Chunking",
    "Collection",
    "Gate",
    "Hnsw",
    "LiveColumns",
    "Metric",
    "MinSamples",
    "NoWorse",
    "Norm",
    "Normalise",
    "Problem",
    "Recipe",
    "Service",
    "Storage",
    "Tag",
    "TooLong",
    "Trust",
    "Unit",
    "cost_usd",
    "index_problem",
    "is_openai",
    "recipe_problems",
]
