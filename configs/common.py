"""What all recipes share: model sizes, data, mesh, and the defaults of every stage."""

from collections.abc import Collection

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


def check_size(size: str, sizes: Collection[str]) -> None:
  """Raises a ValueError for a size that a configuration's file does not have."""
  if size not in sizes:
    raise ValueError(f"size {size!r} is not known; use one of {sorted(sizes)}")


def get_config(size: str) -> ml_collections.ConfigDict:
  """Returns the part of a configuration that does not depend on the recipe."""
  check_size(size, SIZES)
  config = ml_collections.ConfigDict()
  config.seed = 0  # of all noise, of the rows of the embedded task, and of the order of batches
  _keep_records(config)
  config.inference_batch_size = 256  # rows that are sampled or scored at once, outside of RL
  config.model = _model(size)
  config.mesh = _mesh()
  config.data = _data(size)
  # Divides the logits of all samples but those of the curve over temperatures.
  config.temperature = 1.0
  # Samples that are kept along RL for the frontier of reward against KL. Nothing is learnt from
  # them, and nothing selected by them.

  config.frontier = ml_collections.ConfigDict()
  config.frontier.checkpoints = 5  # about how many times in a stage of RL; 0 keeps none
  config.frontier.prompts = 512  # held-out prompts that are answered each time, at most
  config.evaluation = _evaluation()
  if is_large(size):
    _enlarge(config, size)
  return config


def _keep_records(config: ml_collections.ConfigDict) -> None:
  """Sets what is logged, saved, traced and recorded; nothing that is learnt depends on it."""
  config.profile = ml_collections.ConfigDict()
  # Stage of which some steps are traced for XProf, such as "rl_policy"; "": none.
  config.profile.stage = ""
  config.profile.first = 2  # step that is traced first; a stage's first step is 1
  config.profile.last = 4  # step that is traced last
  config.wandb = ml_collections.ConfigDict()
  config.wandb.project = ""  # at wandb.ai, which gets the metrics too (extra `wandb`); "": none
  config.log_every = 10  # steps of imitation and reward modelling between two lines of metrics
  config.log_every_rl = 1  # iterations of RL between two lines of metrics
  config.save_every = 50  # steps of imitation and reward modelling between two checkpoints
  config.save_every_rl = 10  # iterations of RL between two checkpoints
  config.checkpoints = ml_collections.ConfigDict()
  config.checkpoints.keep = 2  # newest ones of each stage; the best one too where it is selected
  config.checkpoints.timeout = 600.0  # seconds that writing one may take
  config.checkpoints.checksum_limit = 1 << 30  # bytes of a state; larger ones have no checksums
  config.compilation = ml_collections.ConfigDict()
  # Folder of compiled programs, which later starts read instead of compiling; runs and machines may
  # share it. "": WORKDIR/programs; "none": programs are not kept. JAX_COMPILATION_CACHE_DIR of the
  # environment goes before it.
  config.compilation.cache = ""
  # Bytes of programs in it for machines of one kind; those not used for longest are removed.
  config.compilation.limit = 4 << 30
  # RL iterations that go beyond these are recorded in flight/, with a guess at why.

  config.recorder = ml_collections.ConfigDict()
  # Nats per response between the policy and its SFT model, beyond which an iteration is recorded in
  # flight/; 0 is never.
  config.recorder.kl = 50.0
  # The same below 0, where more than chance has to be wrong; 0 is never.
  config.recorder.negative_kl = 1.0
  # Between 1 and the mean ratio of an iteration's first minibatch, which should be 1; 0 is never.
  config.recorder.ratio = 0.01


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
  shape = SIZES[size]
  model = ml_collections.ConfigDict()
  model.width = shape["width"]  # numbers per token that pass from layer to layer
  model.layers = shape["layers"]  # how many layers the decoder has
  model.heads = shape["heads"]  # heads of queries
  model.kv_heads = shape["kv_heads"]  # heads of keys and values; a divisor of heads
  model.head_width = shape["head_width"]  # numbers in a query, a key or a value
  model.hidden = shape["hidden"]  # width inside a feed-forward layer
  # "embedded", "embedded_weak" (the same trained for less), "none", auto (embedded for the embedded
  # task, else none), or a model's directory, as transformers writes it; then of the section's keys
  # only dtype, remat, unroll, attention, offload and lora count.
  model.base = "auto"
  model.tied = True  # whether logits are read with the embedding; else by a matrix of their own
  model.rope_theta = 10_000.0  # base of the rotary positions' wavelengths
  model.dtype = "float32"  # of products: "float32" or "bfloat16"; weights are kept in float32
  # Which activations training computes again instead of keeping them: "none"; "full", all but the
  # inputs of layers; "dots", all but products with weights; "attention", all but inputs and what
  # attention gives; "auto", "dots" on CPUs and "full" elsewhere.
  model.remat = "auto"
  model.unroll = True  # sampling is compiled layer by layer: takes longer, and runs faster
  # Program for attention over whole rows: "xla"; "splash", a kernel for TPUs; "cudnn", one for
  # GPUs, in bfloat16; "auto", that of the devices where it applies. A CPU only imitates "splash",
  # slowly.
  model.attention = "auto"
  # Models that are not trained wait in the hosts' memory, and come to the devices when asked.
  model.offload = False
  model.lora = _lora()
  return model


def _mesh() -> ml_collections.ConfigDict:
  mesh = ml_collections.ConfigDict()
  # Devices along data, fsdp and tensor; -1: the rest. ("auto",) chooses by devices and models.
  mesh.shape = (-1, 1, 1)
  # Groups of devices that a slower network joins, over which `data` alone is laid; -1: as many as
  # the devices say.
  mesh.slices = 1
  return mesh


def _lora() -> ml_collections.ConfigDict:
  lora = ml_collections.ConfigDict()
  lora.rank = 0  # 0 trains every weight of every model; else adapters on one frozen base
  lora.alpha = 16.0  # adapters count alpha / rank times
  # Matrices of a layer that have adapters.
  lora.targets = ("query", "key", "value", "output", "gate", "up", "down")
  lora.base = "float32"  # how the frozen base is kept: "float32", "bfloat16" or "int8"
  return lora


def _data(size: str) -> ml_collections.ConfigDict:
  data = ml_collections.ConfigDict()
  # Where preferences come from: synthetic, synthetic:classes, synthetic:chains, synthetic:kinds,
  # example, jsonl:PATH, csv:PATH, parquet:PATH, hh:PATH, hf:NAME[:split] or tfds:NAME[:split].
  data.source = "synthetic"
  data.rows = config_dict.placeholder(int)  # the most usable rows to take; None: all of a file
  data.schema = "auto"  # what columns are called: "auto", by themselves; or the name of a schema
  # What columns are called in a schema's words, as "prompt=frage,chosen=gut,rejected=schlecht", of
  # any source; each has to be there. "": as they are.
  data.columns = ""
  # A row that cannot be used: "skip" counts, logs and reports it, "error" stops at the first.
  data.on_bad_row = "skip"
  # "drop" leaves out rows that their own scores, or a margin of 0 or less, contradict; or "keep".
  data.against_scores = "keep"
  # A prompt or response beyond its limit: "cut" shortens it, "drop" leaves the row out.
  data.over_long = "cut"
  data.cache = ""  # the folder of tokenised sets, which runs may share; "": WORKDIR/tokens
  # Whether batches hold rows of like length (except in short stages of small networks), and
  # sampling gives the places of ended rows to the next prompts. The letters of tiny are nearly
  # equally long.
  data.length_buckets = size != "tiny"
  data.held_out = 0.1  # fraction of prompts that nothing is trained on, for the evaluation
  data.validation = 0.1  # fraction of each fold that trains nothing and validates its stages
  # What one fold holds together: "prompt", all rows of a prompt and all turns of a conversation;
  # "cluster", prompts that are nearly the same too.
  data.fold_by = "prompt"
  data.folds = ("sft", "reward", "rl")  # into which prompts that are not held out are divided
  data.fold_sizes = ()  # how large each fold is beside the others; () is equally
  # Folds of which nothing but prompts is read, so that no part of them validates.
  data.prompts_only = ("rl",)
  # Whose responses are not trained on, where rows name their writers: what is held out by its
  # prompt is then told apart by writers that are new and writers that are not.
  data.held_out_writers = ()
  # Fraction of the reward fold for R_judge, a reward model that only judges; 0 is none.
  data.judge = 0.0
  data.tokenizer = ""  # a Hugging Face tokenizer directory; "": the base's, or one trained here
  data.vocabulary = VOCABULARIES[size]  # tokens of a tokenizer that is learnt here
  data.max_prompt_length = 64 if size == "tiny" else 256  # tokens, its template included
  # Tokens, its end included. Of tiny: the longest letter of the embedded task.
  data.max_response_length = 32 if size == "tiny" else 128
  data.streaming = False  # hf: sources: fetch rows as they are read, and none beyond `rows`
  # How prompts are shown: "plain", by policy_template and improver_template; "model", the base
  # model's own chat template; "auto", that where it has one.
  data.chat = "auto"
  # What the policy is shown where there is no chat template; {prompt} is the prompt.
  data.policy_template = "Question: {prompt}\nAnswer:"
  # What the improver is shown there; {reference} is the draft to improve.
  data.improver_template = "Question: {prompt}\nDraft: {reference}\nBetter:"
  # What the user says to the improver of a chat model, after the reply that is to be improved.
  data.improver_turn = "Write a better reply to my last message. Answer with the reply alone."
  return data


def few_prompts(config: ml_collections.ConfigDict, size: str) -> None:
  """Sets what a study of demonstrations has at tiny: few prompts, of which many are held out."""
  if size != "tiny":
    return
  config.data.rows = 2_200
  config.data.held_out = 0.25
  config.sft.batch_size = 16
  config.evaluation.prompts = 512


def sft(size: str) -> ml_collections.ConfigDict:
  """Returns the section of a job of supervised fine-tuning."""
  job = supervised("sft", "sft", epochs=1.0, learning_rate=1e-3)
  job.packing = False  # several demonstrations per row; the batch size counts rows
  job.packed_length = 0  # tokens of a packed row; 0: a prompt and a response of most tokens
  if is_large(size):
    job.batch_size, job.learning_rate = 256, 1e-5
  return job


def reward(size: str) -> ml_collections.ConfigDict:
  """Returns the section of R_P."""
  job = supervised("preference", "reward", epochs=1.25, learning_rate=5e-4)
  # Directory of a published reward model, of any family, to be R_P; "" trains one.
  job.model = ""
  # How it is asked: "chat", in its own chat template; "pair", as question and answer; "auto", in
  # its template where it has one.
  job.reader = "auto"
  # What computes it: "jax", of the families that this library knows; "torch", of all (extra
  # `torch`); "auto", the first that can.
  job.backend = "auto"
  learn_from_labels(job)
  # γ of the focal ranking loss, which counts pairs the less the surer the model is of them:
  # (1 − 2 max(0, p − ½))^γ times Bradley and Terry's, 2 as InternLM2 has it; 0 is theirs alone.
  job.focal = 0.0
  if is_large(size):
    job.batch_size, job.learning_rate = 256, 5e-6
  return job


def gap_reward(size: str) -> ml_collections.ConfigDict:
  """Returns the section of R_PIT."""
  job = supervised("gap", "reward", epochs=0.75, learning_rate=5e-4)
  learn_from_labels(job)
  job.batch_size = 16  # pairs of a step; four scores of each
  # Weights of eq. 2's terms: wl>ww, wl>ll, wl>lw, ww>lw, ll>lw. 0 switches one off.
  job.term_weights = (1.0, 1.0, 1.0, 1.0, 1.0)
  if is_large(size):
    job.batch_size, job.learning_rate = 128, 5e-6
  return job


def learn_from_labels(job: ml_collections.ConfigDict) -> None:
  """Adds how labelled pairs are taken to a section of a reward model, R_P or R_PIT."""
  # Nats by which a row's `margin` of 1 puts the chosen response ahead in the loss; rows without one
  # have a margin of 0. 0 leaves all margins out.
  job.margin_scale = 0.0
  # Whether a row's `label_probability`, how likely `chosen` is the better one, weighs the loss
  # against that of the exchanged pair; of rows without one the label is certain.
  job.soft_labels = False
  job.pair_weights = False  # whether a row's `pair_weight` says how much it counts; without one, 1
  job.label_smoothing = 0.0  # how often a label is taken to be wrong, beside what its row says
  # What draws scores toward 0, per squared nat: the sum of a pair's two; of R_PIT each of the two
  # gaps of a response to itself. 0 leaves their zero open; TRL suggests 0.01.
  job.centring = 0.0
  # Whether what the lengths of the two responses say of labels, by logistic regression, is taken as
  # known while the model learns, so that it learns the rest and no liking for length.
  job.length_debiased = False
  # Heads on one trunk, each of which learns from a bootstrap sample of the pairs: an ensemble,
  # whose mean is the model. 1 is no ensemble.
  job.members = 1
  # What RL takes off a score for each deviation of the members' scores from each other.
  job.pessimism = 0.0


def is_large(size: str) -> bool:
  """Returns whether a size is for accelerators."""
  return size not in ("tiny", "small")


def supervised(
  kind: str, fold: str, epochs: float, learning_rate: float
) -> ml_collections.ConfigDict:
  """Returns a section of supervised training: its kind of job, whose rows, for how long."""
  job = ml_collections.ConfigDict()
  job.kind = kind  # what is trained, by which checks, memory and plans go
  job.fold = fold  # whose rows it sees
  job.epochs = epochs  # how often it sees every row, where steps is 0; more than 0 there
  job.steps = 0  # optimiser steps; 0: as many as the epochs take
  job.batch_size = 32  # rows of a step; a multiple of accumulation times the devices
  job.accumulation = 1  # micro-batches that a batch is cut into, one at a time in memory
  job.learning_rate = learning_rate  # at its peak, after the warm-up
  job.warmup = 0.1  # fraction of the steps in which the learning rate rises
  job.clip_norm = 1.0  # gradients of a larger norm are scaled down to it
  job.epsilon = 1e-8  # ε of Adam
  job.weight_decay = 0.0  # of AdamW; norms and biases have none
  job.evaluate_every = 0  # steps between two validations; 0: after the last one alone
  job.select = "last"  # which step is kept: "last", or "best" by the validation metric
  return job


def rl(config: ml_collections.ConfigDict, size: str) -> ml_collections.ConfigDict:
  """Returns the section of RL; its temperature is that of the configuration."""
  rl = ml_collections.ConfigDict()
  rl.kind = "rl"  # what is trained, by which checks, memory and plans go
  rl.fold = "rl"  # whose prompts it answers
  rl.steps = 26  # iterations of the policy, with those that warm the value model up
  rl.batch_size = 128  # responses of an iteration; a multiple of samples
  rl.samples = 1  # responses to each prompt, which is read once for all of them
  # How advantages are estimated: "gae", by a value model (PPO); "rloo" or "grpo", against the other
  # samples of the prompt, of which there have to be 2 or more. These want no value model: what is
  # said of one, of discount and of trace, does not count for them.
  rl.estimator = "gae"
  # Whether "grpo" divides by the deviation of a prompt's rewards, as "Dr. GRPO" does not; to what
  # either leads is said in losses/advantages.py.
  rl.scale_rewards = True
  # What is maximised, as pairs of a name and a weight (names of functions have dots, which keys of
  # a configuration must not): the recipe's own rewards, "reward" of a policy and "gap" of an
  # improver; "length", the share of the most tokens that a response has, at most .8; and Python
  # functions of (prompts, responses, references or None), all in words, which return a number per
  # response, or per response a list of one for each of its tokens. As in (("gap", 1.0),
  # ("my_package.my_module:brevity", 0.1)). (): the stage's own one, which it keeps, and alone,
  # where other stages' own ones are named and its is not.
  rl.rewards = ()
  rl.epochs = 1  # how often an iteration learns from its responses
  rl.minibatches = 4  # optimiser steps of an epoch, among which the batch is divided
  rl.accumulation = 1  # micro-batches that a minibatch is cut into, one at a time in memory
  rl.learning_rate = 3e-4  # of the policy, at its peak
  rl.value_scale = 2.0  # the value's learning rate as a multiple
  rl.warmup = 0.05  # fraction of the steps in which the learning rate rises
  rl.clip_norm = 1.0  # gradients of a larger norm are scaled down to it
  rl.epsilon = 1e-5  # ε of Adam
  rl.clip = 0.2  # ε of PPO: ratios count within 1 ± ε
  rl.value_clip = 0.5  # values move at most so far from those of sampling, as PPO's
  rl.value_coefficient = 0.1  # weight of the value loss
  rl.entropy_coefficient = 0.0  # weight of the entropy, which is maximised
  # Weight of the KL in the loss, by k2; the penalty of k1 in the reward, per token, is
  # kl_coefficient. With "grpo" there is none in the reward, whatever kl_coefficient says.
  rl.loss_kl_coefficient = 0.0
  rl.discount = 1.0  # γ of rewards per token
  rl.trace = 0.95  # λ of generalised advantage estimation
  rl.target_kl = 0.1  # nats per token between old and new policy that end an iteration early
  rl.missing_eos_penalty = 1.0  # taken off the reward of a response that reaches no end
  rl.whiten_rewards = False  # whether a batch's rewards per token are brought to deviation 1
  # β: what a nat of KL to the SFT model costs, in deviations of the reward. With
  # estimator "grpo" the KL is in the loss instead, see loss_kl_coefficient.
  rl.kl_coefficient = 0.3
  # Nats per response that an adaptive controller steers to; 0 keeps β as it is, a constant as in
  # the papers' objectives.
  rl.kl_target = 0.0
  # Of the planned episodes, over so many an error of 1 would double β; errors count up to a fifth.
  # So β can move sevenfold in a run, however short it is: (1 + 0.2 / (0.1 N))^N for N iterations.
  rl.kl_horizon = 0.1
  # Iterations in which only the value learns; the policy's schedule waits. The improver's value has
  # its own: they are taken off the curriculum too, once for all of its stages.
  rl.value_warmup = 3
  rl.temperature = config.get_ref("temperature")  # divides the logits; follows `temperature`
  if is_large(size):
    rl.steps, rl.batch_size, rl.learning_rate = 200, 512, 1e-6
  return rl


def _evaluation() -> ml_collections.ConfigDict:
  evaluation = ml_collections.ConfigDict()
  evaluation.prompts = 768  # held-out prompts used, at most
  evaluation.reward_model = ""  # directory of a published reward model that judges too
  evaluation.reward_reader = "auto"  # as reward.reader
  evaluation.reward_backend = "auto"  # as reward.backend
  evaluation.judges = ()  # names of `feedback.raters` that judge too
  evaluation.language_judge = _language_judge()
  evaluation.self_refine = _self_refine()
  evaluation.rounds = 5  # how often the improver improves its own answers
  # What a round must gain to be kept, more than; in deviations of R_PIT.
  evaluation.margin = 0.0
  # What a gain is: R_PIT asked in both orders; "draft_zero", less what it gives the draft over
  # itself; or "zero_point", less one zero for all drafts, which takes half as many reads.
  evaluation.stop_rule = "both_orders"
  evaluation.temperatures = (0.2, 0.4, 0.6, 0.8, 1.0)  # points of the curve over them
  # Held-out prompts of the curve over temperatures, at most; and as many of those that validate the
  # reward models, to choose the best temperatures by.
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
  refine.max_feedback_tokens = 128  # tokens of a feedback; a longer one ends there
  refine.max_prompt_tokens = 2_048  # tokens of a conversation; older drafts are lost
  return refine


def _language_judge() -> ml_collections.ConfigDict:
  judge = ml_collections.ConfigDict()
  # Language model that judges, as its endpoint names it, or a directory; "": none does.
  judge.model = ""
  # Address of an OpenAI-compatible endpoint; "": OpenAI's own; "local": `model` is a model's
  # directory, as transformers writes it, and is sampled here. The key is OPENAI_API_KEY of the
  # environment.
  judge.base_url = ""
  judge.verdict = "json"  # "json", with a reason; or "logprob", probabilities of three letters
  judge.prompts = 128  # held-out prompts on which it compares two systems, at most, in both orders
  judge.tie = 0.5  # a difference up to this is a tie: the two orders have to agree
  judge.temperature = 0.0  # divides the logits of its replies
  judge.max_tokens = 256  # tokens of a reply, at most
  # Tokens that a model which is sampled here reads, at most; a longer prompt fails.
  judge.max_prompt_tokens = 2_048
  # File of transcripts, which runs may share; "": WORKDIR/judge/transcripts.sqlite.
  judge.cache = ""
  # Requests in all, over all commands with the same transcripts, further attempts included; 0: no
  # limit.
  judge.budget_requests = 0
  judge.budget_tokens = 0  # tokens of requests and replies, in the same way; 0: no limit
  judge.input_price = 0.0  # money for a million tokens of requests; 0: not said
  judge.output_price = 0.0  # the same of replies, for estimates of what is asked
  judge.requests_per_minute = 0.0  # requests a minute, at most; 0: no limit
  judge.retries = 5  # attempts after the first
  judge.wait = 1.0  # seconds before the second attempt, at most, then doubled
  judge.timeout = 60.0  # seconds that a request may take
  judge.concurrency = 8  # requests under way at the same time, at most
  return judge
