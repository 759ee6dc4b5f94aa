from .run import finetune as finetune
