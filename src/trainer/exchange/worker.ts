/** Entry of the worker that reads and writes models' files, which is started when a person opens or saves one. */
import { expose } from 'comlink';
import { filesApi } from './files-api.ts';

expose(filesApi());
