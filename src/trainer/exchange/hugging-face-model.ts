/** A model ⇄ the files of a Hugging Face folder. Which files there are is a map by path: a folder, an archive or what was dropped. */
import { ModelFileError, readJsonFile, readTextFile } from '../../checkpoint/bytes.ts';
import { openFolderWeights, readFlat, weightsFile } from '../../checkpoint/hf-folder.ts';
import type { FileSet, ReadOptions } from '../../checkpoint/hf-folder.ts';
import type { NumberFormat } from '../../checkpoint/number-formats.ts';
import { safetensorsStream } from '../../checkpoint/safetensors.ts';
import { TokenizerError } from '../../data/errors.ts';
import { describeTokenizer } from '../../data/tokenizer-files.ts';
import type { TokenizerFiles } from '../../data/tokenizer-files.ts';
import { ConfigError, parseConfig, toHuggingFaceConfig } from '../../model/config.ts';
import { parameterLayoutOf } from '../../model/parameters.ts';
import type { DecoderConfig } from '../../model/types.ts';
import type { HuggingFaceType, ModelParts, OutputFile } from './types.ts';

export const configFile = 'config.json';
export const tokenizerFile = 'tokenizer.json';
export const tokenizerConfigFile = 'tokenizer_config.json';
const generationConfigFile = 'generation_config.json';
const templateFile = 'chat_template.jinja';

const formats: Readonly<Record<HuggingFaceType, NumberFormat>> = { f32: 'F32', bf16: 'BF16', f16: 'F16' };
const torchTypes: Readonly<Record<HuggingFaceType, string>> = { f32: 'float32', bf16: 'bfloat16', f16: 'float16' };

export function jsonFile(path: string, value: unknown): OutputFile {
  return textFile(path, `${JSON.stringify(value, null, 2)}\n`);
}

function textFile(path: string, text: string): OutputFile {
  const bytes = new TextEncoder().encode(text);
  return { path, size: bytes.length, chunks: () => [bytes] };
}

/** The weights' file comes last: everything else is a few kilobytes. */
export function huggingFaceOutputs({ config, weights, tokenizer }: ModelParts, type: HuggingFaceType): readonly OutputFile[] {
  const ends = tokenizer === null ? null : describeTokenizer(tokenizer);
  const ids = { bos_token_id: ends?.beginOfText ?? null, eos_token_id: ends?.endOfText ?? null };
  const tensors = parameterLayoutOf(config).entries.map(({ name, shape, offsetElements, lengthElements }) => ({
    name,
    shape,
    format: formats[type],
    values: weights.subarray(offsetElements, offsetElements + lengthElements),
  }));
  return [
    jsonFile(configFile, { ...toHuggingFaceConfig(config), ...ids, torch_dtype: torchTypes[type] }),
    jsonFile(generationConfigFile, ids),
    ...(tokenizer === null ? [] : tokenizerOutputs(tokenizer, ends?.chatTemplate ?? null)),
    { path: weightsFile, ...safetensorsStream(tensors) },
  ];
}

function tokenizerOutputs({ tokenizer, config }: TokenizerFiles, template: string | null): readonly OutputFile[] {
  // Newer transformers read the template from a file of its own, older ones from the config.
  return [jsonFile(tokenizerFile, tokenizer), jsonFile(tokenizerConfigFile, config), ...(template === null ? [] : [textFile(templateFile, template)])];
}

export interface OpenedFolder {
  readonly config: DecoderConfig;
  readonly tokenizer: TokenizerFiles | null;
  /** Null where the folder has a configuration alone: then a run begins with fresh weights. */
  readonly readWeights: ((options?: ReadOptions) => Promise<Float32Array<ArrayBuffer>>) | null;
}

/** Reads everything but the weights. Throws `ModelFileError` naming the file. */
export async function openFolder(files: FileSet): Promise<OpenedFolder> {
  const source = files.get(configFile);
  if (source === undefined) throw new ModelFileError(`there is no ${configFile} among ${files.size} files: a model’s folder has one`);
  const config = await readConfig(source.name, await readJsonFile(source));
  const tensors = await openFolderWeights(files);
  const tokenizer = await readTokenizer(files);
  if (tokenizer !== null) checkTokenizer(tokenizer, config);
  return {
    config,
    tokenizer,
    readWeights: tensors === null ? null : (options) => readFlat(parameterLayoutOf(config), tensors, options),
  };
}

async function readConfig(name: string, json: unknown): Promise<DecoderConfig> {
  try {
    return await Promise.resolve(parseConfig(json));
  } catch (error) {
    throw error instanceof ConfigError ? new ModelFileError(`${name}: ${error.message}`) : error;
  }
}

async function readTokenizer(files: FileSet): Promise<TokenizerFiles | null> {
  const source = files.get(tokenizerFile);
  if (source === undefined) return null;
  const [tokenizer, config, template] = [await objectIn(source), files.get(tokenizerConfigFile), files.get(templateFile)];
  const settings = config === undefined ? {} : await objectIn(config);
  return { tokenizer, config: template === undefined ? settings : { ...settings, chat_template: await readTextFile(template) } };
}

async function objectIn(source: Parameters<typeof readJsonFile>[0]): Promise<object> {
  const json = await readJsonFile(source);
  if (typeof json !== 'object' || json === null) throw new ModelFileError(`${source.name}: is not a JSON object`);
  return json;
}

/** Throws `ModelFileError` where the model has too few tokens for the tokenizer. A tokenizer of another kind is left to whoever needs it. */
export function checkTokenizer(files: TokenizerFiles, config: DecoderConfig): void {
  try {
    const { length } = describeTokenizer(files).texts;
    if (length > config.vocab_size) throw new ModelFileError(`tokenizer and model don’t match: ${tokenizerFile} has ${length} tokens, and the model’s vocab_size is ${config.vocab_size}`);
  } catch (error) {
    if (!(error instanceof TokenizerError)) throw error;
  }
}
