"""Train a scikit-learn classifier on a bundled data set and say how well it does.

scikit-learn is imported here, at the top: a node imports the skill once and forks it for each
call, so the second that this import takes is paid once and not by every caller.
"""

import warnings

from sklearn.base import ClassifierMixin
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as SkLogisticRegression
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from sklearn.model_selection import StratifiedKFold, cross_val_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from .models import (
    CrossValidation,
    Input,
    LogisticRegression,
    Model,
    Neighbours,
    Output,
    RandomForest,
    SupportVectors,
)

_DATASETS = {"iris": load_iris, "wine": load_wine, "digits": load_digits}


async def handle(request: Input) -> Output:
    data = _DATASETS[request.dataset]()
    # Stratified, so that a small test part holds every class.
    train_x, test_x, train_y, test_y = train_test_split(
        data.data,
        data.target,
        test_size=request.test_share,
        random_state=request.seed,
        stratify=data.target,
    )
    # Scaling is part of the model: fitted on the training part only, in every fold anew.
    classifier = make_pipeline(StandardScaler(), _classifier(request.model, request.seed))
    with warnings.catch_warnings():
        # A caller who asks for few iterations sees the accuracy that they buy.
        warnings.simplefilter("ignore", ConvergenceWarning)
        cross_validation = None
        if request.folds is not None:
            folds = StratifiedKFold(request.folds, shuffle=True, random_state=request.seed)
            scores = cross_val_score(classifier, train_x, train_y, cv=folds, n_jobs=1)
            cross_validation = CrossValidation(
                mean=round(float(scores.mean()), 6), spread=round(float(scores.std()), 6)
            )
        classifier.fit(train_x, train_y)
    said = classifier.predict(test_x)
    return Output(
        accuracy=round(float(accuracy_score(test_y, said)), 6),
        macro_f1=round(float(f1_score(test_y, said, average="macro")), 6),
        classes=[str(name) for name in data.target_names],
        confusion=confusion_matrix(test_y, said).tolist(),
        train_samples=len(train_y),
        test_samples=len(test_y),
        cross_validation=cross_validation,
    )


def _classifier(model: Model, seed: int) -> ClassifierMixin:
    """One job each: the sandbox owns the number of cores."""
    match model:
        case LogisticRegression():
            return SkLogisticRegression(C=model.c, max_iter=model.max_iterations, random_state=seed)
        case RandomForest():
            return RandomForestClassifier(
                n_estimators=model.trees,
                max_depth=model.max_depth,
                min_samples_leaf=model.min_samples_leaf,
                n_jobs=1,
                random_state=seed,
            )
        case SupportVectors():
            return SVC(C=model.c, kernel=model.kernel, gamma=model.gamma, random_state=seed)
        case Neighbours():
            return KNeighborsClassifier(
                n_neighbors=model.neighbours, weights=model.weights, n_jobs=1
            )
