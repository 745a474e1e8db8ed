@echo off
set MODEL_NAME=C:\models\sd15
REM a textual inversion
accelerate launch textual_inversion.py ^
  --pretrained_model_name_or_path=%MODEL_NAME% ^
  --train_data_dir="toys" --learnable_property="object" ^
  --placeholder_token="<sks-toy>" --initializer_token="toy" --num_vectors=2 ^
  --resolution=64 --train_batch_size=1 --gradient_accumulation_steps=4 ^
  --max_train_steps=3000 --learning_rate=5.0e-04 --scale_lr --lr_scheduler="constant" --lr_warmup_steps=0
