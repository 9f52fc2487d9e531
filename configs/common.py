"""What all recipes share: model sizes, data, mesh, and the defaults of every stage."""

import ml_collections
from ml_collections import config_dict

SIZES = {
  # The shape of the embedded base model, so that both starts are comparable.
  "tiny": {"width": 128, "layers": 4, "heads": 4, "kv_heads": 2, "head_width": 32, "hidden": 256},
  "small": {"width": 512, "layers": 8, "heads": 8, "kv_heads": 4, "head_width": 64, "hidden": 1536},
  # Those of Llama 3.2 1B, Llama 3.1 8B, Gemma 2 27B and Llama 3.1 70B, for accelerators.
  "1b": {
    "width": 2048, "layers": 16, "heads": 32, "kv_heads": 8, "head_width": 64, "hidden": 8192,
  },
  "8b": {
    "width": 4096, "layers": 32, "heads": 32, "kv_heads": 8, "head_width": 128, "hidden": 14_336,
  },
  "27b": {
    "width": 4608, "layers": 46, "heads": 32, "kv_heads": 16, "head_width": 128, "hidden": 36_864,
  },
  "70b": {
    "width": 8192, "layers": 80, "heads": 64, "kv_heads": 8, "head_width": 128, "hidden": 28_672,
  },
}  # fmt: skip
VOCABULARIES = {
  "tiny": 2_048, "small": 8_192, "1b": 128_256, "8b": 128_256, "27b": 256_000, "70b": 128_256,
}  # fmt: skip


def get_config(size: str) -> ml_collections.ConfigDict:
  """Returns the part of a configuration that does not depend on the recipe."""
  if size not in SIZES:
    raise ValueError(f"size {size!r} is not known; use one of {sorted(SIZES)}")
  config = ml_collections.ConfigDict()
  config.seed = 0
  _keep_records(config)
  config.inference_batch_size = 256
  config.model = _model(size)
  config.mesh = _mesh()
  config.data = _data(size)
  config.temperature = 1.0  # of all samples but those of the curve over temperatures
  # During RL samples are kept about so many times, on so many held-out prompts, for the frontier of
  # reward against KL; 0 keeps none. Nothing is learnt from them, and nothing selected by them.
  config.frontier = ml_collections.ConfigDict({"checkpoints": 5, "prompts": 512})
  config.evaluation = _evaluation()
  if is_large(size):
    _enlarge(config, size)
  return config


def _keep_records(config: ml_collections.ConfigDict) -> None:
  """Sets what is logged, saved, traced and recorded; nothing that is learnt depends on it."""
  # A trace of these steps of a stage ("rl_policy", say) for XProf; the first step is 1.
  config.profile = ml_collections.ConfigDict({"stage": "", "first": 2, "last": 4})
  config.wandb = ml_collections.ConfigDict({"project": ""})  # at wandb.ai (extra `wandb`); "": none
  config.log_every = 10  # steps of imitation and reward modelling
  config.log_every_rl = 1  # iterations
  config.save_every = 50  # steps of imitation and reward modelling
  config.save_every_rl = 10  # iterations
  config.checkpoints = ml_collections.ConfigDict()
  config.checkpoints.keep = 2  # the newest of each stage; the best one too where it is selected
  config.checkpoints.timeout = 600.0  # seconds that writing one may take
  config.checkpoints.checksum_limit = 1 << 30  # bytes of a state; larger ones have no checksums
  # RL iterations that go beyond these are recorded in flight/, with a guess at why; 0 is never.
  config.recorder = ml_collections.ConfigDict()
  config.recorder.kl = 50.0  # nats per response between the policy and its SFT model
  config.recorder.negative_kl = 1.0  # the same below 0, where more than chance has to be wrong
  config.recorder.ratio = 0.01  # between 1 and the mean ratio of an iteration's first minibatch


def _enlarge(config: ml_collections.ConfigDict, size: str) -> None:
  """Sets what many accelerators want: bfloat16 products, large batches, a mesh by itself."""
  config.mesh.shape = ("auto",)
  config.model.base = "none"  # or a directory: the embedded base is tiny
  config.model.dtype, config.model.unroll = "bfloat16", False
  config.model.tied = size in ("1b", "27b")
  config.model.rope_theta = 500_000.0
  config.data.max_prompt_length, config.data.max_response_length = 1024, 512
  config.inference_batch_size = 512
  config.evaluation.self_refine.max_feedback_tokens = 256
  config.evaluation.self_refine.max_prompt_tokens = 8_192


def _model(size: str) -> ml_collections.ConfigDict:
  model = ml_collections.ConfigDict(SIZES[size])
  # "embedded", "none", auto (embedded for the embedded task, else none), or a model's directory,
  # as transformers writes it; then of what is below only dtype, remat, unroll, attention, offload
  # and lora count.
  model.base = "auto"
  model.tied = True
  model.rope_theta = 10_000.0
  model.dtype = "float32"
  model.remat = True  # training computes activations twice instead of keeping them
  model.unroll = True  # sampling is compiled layer by layer: takes longer, and runs faster
  # Over whole rows: "xla"; "splash", a kernel for TPUs; "cudnn", one for GPUs, in bfloat16; "auto",
  # that of the devices where it applies. A CPU only imitates "splash", slowly.
  model.attention = "auto"
  # Models that are not trained wait in the hosts' memory, and come to the devices when asked.
  model.offload = False
  model.lora = _lora()
  return model


def _mesh() -> ml_collections.ConfigDict:
  mesh = ml_collections.ConfigDict()
  # data, fsdp, tensor; -1: the rest. ("auto",) chooses by the devices and the models.
  mesh.shape = (-1, 1, 1)
  # Groups of devices that a slower network joins, over which `data` alone is laid; -1: as many as
  # the devices say.
  mesh.slices = 1
  return mesh


def _lora() -> ml_collections.ConfigDict:
  lora = ml_collections.ConfigDict()
  lora.rank = 0  # 0 trains every weight of every model; else adapters on one frozen base
  lora.alpha = 16.0
  lora.targets = ("query", "key", "value", "output", "gate", "up", "down")
  lora.base = "float32"  # or "bfloat16", "int8": how the frozen base is kept
  return lora


def _data(size: str) -> ml_collections.ConfigDict:
  data = ml_collections.ConfigDict()
  data.source = "synthetic"
  data.rows = config_dict.placeholder(int)  # None: all rows of a file
  data.schema = "auto"  # by the columns; or the name of one, see pit_jax/data/published.py
  data.on_bad_row = "skip"  # counted, logged and reported; "error" stops at the first
  # "drop" leaves out rows that their own scores, or a margin of 0 or less, contradict.
  data.against_scores = "keep"
  data.over_long = "cut"  # or "drop"
  data.cache = ""  # the folder of tokenised sets, which runs may share; "": WORKDIR/tokens
  # Whether batches hold rows of like length, and sampling leaves ended rows behind. The letters
  # of tiny are nearly equally long.
  data.length_buckets = size != "tiny"
  data.held_out = 0.1
  data.validation = 0.1
  # What one fold holds together: "prompt", all rows of a prompt and all turns of a conversation;
  # "cluster", prompts that are nearly the same too.
  data.fold_by = "prompt"
  # Into which folds the rest is divided, and how large each is beside the others; () is equally. Of
  # those in prompts_only nothing but prompts is read, so that no part of them validates.
  data.folds = ("sft", "reward", "rl")
  data.fold_sizes = ()
  data.prompts_only = ("rl",)
  # Whose responses are not trained on, where rows name their writers: what is held out by its
  # prompt is then told apart by writers that are new and writers that are not.
  data.held_out_writers = ()
  data.judge = 0.0  # of the reward fold, for a reward model that only judges; 0 is none
  data.tokenizer = ""  # a Hugging Face tokenizer directory; "": the base's, or one trained here
  data.vocabulary = VOCABULARIES[size]
  data.max_prompt_length = 64 if size == "tiny" else 256
  # Of tiny: the longest letter of the embedded task, with its end.
  data.max_response_length = 32 if size == "tiny" else 128
  data.streaming = False  # hf: sources: fetch rows as they are read, and none beyond `rows`
  # How prompts are shown: "plain", the two templates below; "model", the base model's own chat
  # template; "auto", that where it has one.
  data.chat = "auto"
  data.policy_template = "Question: {prompt}\nAnswer:"
  data.improver_template = "Question: {prompt}\nDraft: {reference}\nBetter:"
  # What the user says to the improver of a chat model, after the reply that is to be improved.
  data.improver_turn = "Write a better reply to my last message. Answer with the reply alone."
  return data


def sft(size: str) -> ml_collections.ConfigDict:
  """Returns the section of a job of supervised fine-tuning."""
  job = supervised("sft", "sft", epochs=1.0, learning_rate=1e-3)
  job.packing = False  # several demonstrations per row; the batch size counts rows
  job.packed_length = 0  # tokens of such a row; 0: a prompt and a response of most tokens
  if is_large(size):
    job.batch_size, job.learning_rate = 256, 1e-5
  return job


def reward(size: str) -> ml_collections.ConfigDict:
  """Returns the section of R_P."""
  job = supervised("preference", "reward", epochs=1.25, learning_rate=5e-4)
  # Directory of a published reward model, of any family, to be R_P; "" trains one.
  job.model = ""
  job.reader = "auto"  # "chat": it reads its chat template; "pair": question and answer
  job.backend = "auto"  # "jax" computes our families; "torch" all (extra `torch`)
  # Nats by which a row's `margin` of 1 puts the chosen response ahead in the losses of R_P and
  # R_PIT; rows without one have a margin of 0. 0 leaves all margins out.
  job.margin_scale = 0.0
  if is_large(size):
    job.batch_size, job.learning_rate = 256, 5e-6
  return job


def gap_reward(size: str) -> ml_collections.ConfigDict:
  """Returns the section of R_PIT."""
  job = supervised("gap", "reward", epochs=0.75, learning_rate=5e-4)
  job.margin_scale = 0.0  # as for R_P
  job.batch_size = 16  # pairs; four scores of each
  # Weights of eq. 2's terms: wl>ww, wl>ll, wl>lw, ww>lw, ll>lw. 0 switches one off.
  job.term_weights = (1.0, 1.0, 1.0, 1.0, 1.0)
  if is_large(size):
    job.batch_size, job.learning_rate = 128, 5e-6
  return job


def is_large(size: str) -> bool:
  """Returns whether a size is for accelerators."""
  return size not in ("tiny", "small")


def supervised(
  kind: str, fold: str, epochs: float, learning_rate: float
) -> ml_collections.ConfigDict:
  """Returns a section of supervised training: its kind of job, whose rows, for how long."""
  job = ml_collections.ConfigDict()
  job.kind, job.fold = kind, fold
  job.epochs = epochs
  job.steps = 0  # 0: as many as the epochs take
  job.batch_size = 32
  job.accumulation = 1
  job.learning_rate = learning_rate
  job.warmup = 0.1  # fraction of the steps
  job.clip_norm = 1.0
  job.epsilon = 1e-8
  job.weight_decay = 0.0  # not of norms and biases
  job.evaluate_every = 0  # steps; 0: after the last one
  job.select = "last"  # or "best", the evaluated step with the best validation metric
  return job


def rl(config: ml_collections.ConfigDict, size: str) -> ml_collections.ConfigDict:
  """Returns the section of RL; its temperature is that of the configuration."""
  rl = ml_collections.ConfigDict()
  rl.kind, rl.fold = "rl", "rl"
  rl.steps = 26  # iterations of the policy
  rl.batch_size = 128  # responses of an iteration; a multiple of samples
  rl.samples = 1  # responses to each prompt, which is read once for all of them
  # Of advantages: "gae", by a value model (PPO); "rloo" or "grpo", against the other samples of the
  # prompt, of which there have to be 2 or more. These want no value model: what is said of one
  # below, of discount and of trace, does not count for them.
  rl.estimator = "gae"
  # What is maximised, as pairs of a name and a weight (names of functions have dots, which keys of
  # a configuration must not): the recipe's own rewards, "reward" of a policy and "gap" of an
  # improver, and Python functions of (prompts, responses, references or None), all in words, which
  # return a number per response, or per response a list of one for each of its tokens. As in
  # (("gap", 1.0), ("my_package.my_module:brevity", 0.1)). (): the stage's own one, which it
  # keeps, and alone, where other stages' own ones are named and its is not.
  rl.rewards = ()
  rl.epochs = 1
  rl.minibatches = 4
  rl.learning_rate = 3e-4
  rl.value_scale = 2.0  # the value's learning rate as a multiple
  rl.warmup = 0.05
  rl.clip_norm = 1.0
  rl.epsilon = 1e-5
  rl.clip = 0.2
  rl.value_clip = 0.5
  rl.value_coefficient = 0.1
  rl.entropy_coefficient = 0.0
  # Of the KL in the loss, by k2; the penalty of k1 in the reward, per token, is kl_coefficient.
  # With "grpo" there is none in the reward, whatever kl_coefficient says.
  rl.loss_kl_coefficient = 0.0
  rl.discount = 1.0
  rl.trace = 0.95
  rl.target_kl = 0.1  # nats per token between old and new policy that end an iteration early
  rl.missing_eos_penalty = 1.0
  rl.whiten_rewards = False
  rl.kl_coefficient = 0.3
  # Nats per response that an adaptive controller steers to; 0 keeps β as it is, a constant as in
  # the papers' objectives.
  rl.kl_target = 0.0
  # Of the planned episodes, over so many an error of 1 would double β; errors count up to a fifth.
  # So β can move sevenfold in a run, however short it is: (1 + 0.2 / (0.1 N))^N for N iterations.
  rl.kl_horizon = 0.1
  rl.value_warmup = 3  # iterations in which only the value learns; the policy's schedule waits
  rl.temperature = config.get_ref("temperature")
  if is_large(size):
    rl.steps, rl.batch_size, rl.learning_rate = 200, 512, 1e-6
  return rl


def _evaluation() -> ml_collections.ConfigDict:
  evaluation = ml_collections.ConfigDict()
  evaluation.prompts = 768  # held-out prompts used, at most
  evaluation.reward_model = ""  # directory of a published reward model that judges too
  evaluation.reward_reader = "auto"  # as reward.reader
  evaluation.reward_backend = "auto"  # as reward.backend
  evaluation.language_judge = _language_judge()
  evaluation.self_refine = _self_refine()
  evaluation.rounds = 5
  evaluation.margin = 0.0  # a round must gain more than this to be kept
  # What a gain is: R_PIT asked in both orders; "draft_zero", less what it gives the draft over
  # itself; or "zero_point", less one zero for all drafts, which takes half as many reads.
  evaluation.stop_rule = "both_orders"
  evaluation.temperatures = (0.2, 0.4, 0.6, 0.8, 1.0)
  # Of these prompts, at most, for the curve over temperatures; and as many that validate the reward
  # models to choose the best ones by.
  evaluation.temperature_prompts = 512
  return evaluation


def _self_refine() -> ml_collections.ConfigDict:
  refine = ml_collections.ConfigDict()
  # Whether the policy plays Self-Refine, for as many rounds as the improver's, where it is asked
  # through a chat template; elsewhere the report says why not.
  refine.play = True
  refine.feedback_turn = (  # what the user says after a draft
    "Look critically at your last reply. Is it right, complete, clear, honest and harmless, and "
    "does it do what I asked for? Say in a few sentences what is weak in it and how to make it "
    "better, and do not rewrite it yet. If there is nothing to make better, say only: No further "
    "feedback needed."
  )
  refine.refine_turn = (  # what the user says after the feedback
    "Now write the better reply to what I asked for, as this feedback says. Answer with the reply "
    "alone."
  )
  refine.stop = "No further feedback needed"  # said in a feedback, it ends the row; "": never
  refine.max_feedback_tokens = 128
  refine.max_prompt_tokens = 2_048  # of a conversation; a longer one loses its oldest drafts
  return refine


def _language_judge() -> ml_collections.ConfigDict:
  judge = ml_collections.ConfigDict()
  judge.model = ""  # as its endpoint names it, or a directory; "": no language model judges
  # Of an OpenAI-compatible endpoint; "": OpenAI's own; "local": `model` is a model's directory, as
  # transformers writes it, and is sampled here. The key is OPENAI_API_KEY of the environment.
  judge.base_url = ""
  judge.verdict = "json"  # with a reason; or "logprob", the probabilities of three letters
  judge.prompts = 128  # held-out prompts on which it compares two systems, at most, in both orders
  judge.tie = 0.5  # a difference up to this is a tie: the two orders have to agree
  judge.temperature = 0.0
  judge.max_tokens = 256  # of a reply
  judge.max_prompt_tokens = 2_048  # of a model that is sampled here; a longer prompt fails
  judge.cache = (
    ""  # file of transcripts, which runs may share; "": WORKDIR/judge/transcripts.sqlite
  )
  # In all, over all commands with the same transcripts, further attempts included; 0: no limit.
  judge.budget_requests = 0
  judge.budget_tokens = 0
  judge.requests_per_minute = 0.0  # 0: no limit
  judge.retries = 5  # attempts after the first
  judge.wait = 1.0  # seconds before the second attempt, at most, then doubled
  judge.timeout = 60.0  # seconds
  judge.concurrency = 8  # requests under way
  return judge
