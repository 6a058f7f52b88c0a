"""What ``fit``, ``validate``, ``test`` and ``predict`` of the Trainer say of themselves; known without importing it."""

from __future__ import annotations

__all__ = ["DESCRIPTIONS", "EXAMPLES", "FLAGS"]

_SETTINGS = """

Every setting of an experiment is an option, by its place in the YAML: --model.encoder.init_args.weights pretrained,
--trainer.max_epochs 3. Experiments are files, or names that mde experiments lists; --print_config shows all settings,
and --model.help mde.models.UNet those of a class."""

DESCRIPTIONS = {
    "fit": "Train a network: validate after each epoch, keep the best checkpoint." + _SETTINGS,
    "validate": "Score a checkpoint on the validation set, with the data that it was trained on or others." + _SETTINGS,
    "test": "Score a checkpoint on the test set, beside the constant predictor; write results.json, the errors of each "
    "image and pictures. The data are those of the training, or others." + _SETTINGS,
    "predict": "Write the predictions of a data set as the Trainer makes them. For your own pictures: mde predict "
    "photo.jpg --checkpoint X -o DIR; mde predict --help shows its options." + _SETTINGS,
}

EXAMPLES = {
    "fit": (
        "mde fit --config quickstart",
        "mde fit --config quickstart --trainer.max_epochs 3 --model.optimizer.init_args.lr 1e-3",
        "mde fit --config folder/advised --data.root FOLDER --run.test true",
        "mde fit --config quickstart --ckpt_path last",
    ),
    "validate": ("mde validate --ckpt_path runs/quickstart",),
    "test": (
        "mde test --ckpt_path runs/quickstart",
        "mde test --ckpt_path runs/quickstart --data.test_scenes 50",
    ),
    "predict": ("mde predict --ckpt_path runs/quickstart",),
}

FLAGS = (
    *("--config", "--ckpt_path", "--print_config", "--seed_everything", "--help"),
    *("--run.name", "--run.root", "--run.test", "--run.log"),
    *("--trainer.max_epochs", "--trainer.accelerator", "--trainer.devices", "--trainer.precision"),
    *("--trainer.limit_train_batches", "--trainer.limit_val_batches", "--trainer.limit_test_batches"),
    *("--trainer.accumulate_grad_batches", "--trainer.gradient_clip_val", "--trainer.check_val_every_n_epoch"),
    *("--model", "--model.help", "--model.encoder.init_args.weights", "--model.encoder_lr"),
    *("--model.codec.min_depth", "--model.codec.max_depth", "--model.optimizer.init_args.lr"),
    *("--data", "--data.help", "--data.root", "--data.image_size", "--data.batch_size", "--data.num_workers"),
    *("--data.cache", "--data.depth_scale", "--data.intrinsics"),
)
"""The options that are used most, for completion; there are some five hundred."""
