#!/bin/bash
# A LoRA by sd-scripts
MODEL=stable-diffusion-v1-5/stable-diffusion-v1-5
export OUT="./out dir"
rm -rf "$OUT"   # never run
accelerate launch --num_cpu_threads_per_process 1 --mixed_precision=bf16 \
  "../sd-scripts/train_network.py" \
  --pretrained_model_name_or_path="$MODEL" \
  --dataset_config datasets.toml \
  --output_dir "$OUT" --output_name 'it is $MODEL' \
  --network_module=networks.lora --network_dim=16 --network_train_unet_only \
  --learning_rate 1e-4 --max_train_steps 40 --lr_scheduler=constant_with_warmup --lr_warmup_steps=4 \
  --optimizer_args "weight_decay=0.05" "d_coef=2" --noise_offset -0 \
  --logging_d $LOGS && echo done
