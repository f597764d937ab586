/** A decoder's hyperparameters under the names of Hugging Face's `config.json`. */
export interface DecoderConfig {
  readonly model_type: 'llama' | 'qwen3';
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly tie_word_embeddings: boolean;
  readonly initializer_range: number;
  /** Residual dropout after embedding, attention and feed-forward; ours, 0 when absent. */
  readonly dropout: number;
}
