"""Models as files: Hugging Face, PEFT and GGUF in, finished runs out."""
