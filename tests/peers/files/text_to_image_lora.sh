export MODEL_NAME="stable-diffusion-v1-5/stable-diffusion-v1-5"
export DATASET_NAME=lambdalabs/naruto-blip-captions

accelerate launch --mixed_precision="fp16"  train_text_to_image_lora.py \
  --pretrained_model_name_or_path=$MODEL_NAME \
  --dataset_name=${DATASET_NAME} --caption_column="text" \
  --resolution=512 --center_crop --random_flip \
  --train_batch_size=1 --gradient_accumulation_steps=4 \
  --max_train_steps=15000 \
  --learning_rate=1e-04 --max_grad_norm=1 \
  --lr_scheduler="cosine" --lr_warmup_steps=0 \
  --output_dir=${OUTPUT_DIR} --push_to_hub --hub_model_id=naruto \
  --report_to=wandb --checkpointing_steps=500 --num_train_epochs 7 \
  --validation_prompt="A naruto with blue eyes." --seed=1337 --rank 8 --snr_gamma 5
