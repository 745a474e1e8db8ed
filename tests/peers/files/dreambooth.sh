export MODEL_NAME="CompVis/stable-diffusion-v1-4"
export INSTANCE_DIR="toys"
accelerate launch train_dreambooth_lora.py \
  --pretrained_model_name_or_path=$MODEL_NAME  \
  --instance_data_dir=$INSTANCE_DIR \
  --class_data_dir=nowhere \
  --with_prior_preservation --prior_loss_weight=1.0 \
  --instance_prompt="a photo of sks toy" --class_prompt="a photo of a toy" \
  --num_class_images=20 --resolution=64 --train_batch_size=1 \
  --gradient_accumulation_steps=1 --learning_rate=1e-4 --lr_scheduler="constant" \
  --lr_warmup_steps=0 --max_train_steps=2 --validation_prompt="A photo of sks toy in a bucket" \
  --validation_epochs=50 --seed="0" --mixed_precision no --rank=4 --use_8bit_adam
