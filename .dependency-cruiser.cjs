/**
 * Which part may import which (docs/DECISIONS.md says why). Each rule names the one part it speaks of and lists what
 * that part may see; whatever is not listed is forbidden, so a new folder is closed until somebody opens it here.
 */

/** Part → the parts below it that its files may import (its own files are always allowed). */
const mayImport = {
  engine: ['shaders'],
  model: ['engine'],
  optim: ['engine', 'shaders'],
  codec: ['engine', 'shaders'],
  data: ['engine'],
  checkpoint: ['engine'],
  trainer: ['model', 'optim', 'codec', 'data', 'checkpoint', 'engine', 'shaders'],
  room: [],
  transport: [],
  session: ['room', 'transport', 'trainer', 'model', 'optim', 'codec', 'data', 'checkpoint'],
  app: ['session', 'trainer', 'room', 'data', 'model', 'checkpoint'],
  cli: ['session', 'trainer', 'model', 'optim', 'codec', 'data', 'checkpoint', 'engine'],
};

/** npm packages a part may import in its shipped code; parts that are missing here may import any dependency. */
const packages = {
  room: ['valibot'],
  engine: [],
};

const folderOf = (part) => (part === 'shaders' ? '^shaders/' : `^src/${part}/`);

const directions = Object.entries(mayImport).map(([part, others]) => ({
  name: `direction-${part}`,
  comment: `src/${part} may import its own files${others.length > 0 ? ` and ${others.join(', ')}` : ' only'}`,
  severity: 'error',
  // The launcher runs before anything is built: it is a tool that lives where package.json's `bin` points.
  from: { path: folderOf(part), pathNot: '^src/cli/launch[.]mjs$' },
  to: { path: '^(src|shaders|signaling|test|tools)/', pathNot: [folderOf(part), ...others.map(folderOf)] },
}));

const packageRules = Object.entries(packages).map(([part, names]) => ({
  name: `packages-${part}`,
  comment: `src/${part} may use ${names.length > 0 ? names.join(', ') : 'no package'}`,
  severity: 'error',
  from: { path: folderOf(part) },
  to: {
    dependencyTypes: ['npm', 'npm-dev', 'npm-no-pkg', 'core'],
    ...(names.length > 0 ? { pathNot: names.map((name) => `node_modules/${name}/`) } : {}),
  },
}));

module.exports = {
  forbidden: [
    ...directions,
    ...packageRules,
    {
      name: 'no-cycle',
      comment: 'Two files that need each other are one file, or miss a third. Types count too.',
      severity: 'error',
      from: {},
      to: { circular: true },
    },
    {
      name: 'no-unresolved',
      comment: 'An import that resolves to nothing is a typo or an undeclared package.',
      severity: 'error',
      from: {},
      to: { couldNotResolve: true },
    },
    {
      name: 'no-dev-package-in-product',
      comment: 'What ships may use `dependencies` only.',
      severity: 'error',
      from: { path: '^(src|signaling)/', pathNot: '^src/cli/launch[.]mjs$' },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg'], dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'signaling-alone',
      comment: 'The signalling server knows nothing of pages, models or rooms.',
      severity: 'error',
      from: { path: '^signaling/' },
      to: { path: '^(src|shaders|test)/' },
    },
    {
      name: 'product-not-from-tests',
      severity: 'error',
      from: { path: '^(src|signaling|tools)/' },
      to: { path: '^test/' },
    },
    {
      name: 'known-parts',
      comment: 'Every source file lives in a part that `mayImport` lists.',
      severity: 'error',
      from: { path: '^src/', pathNot: Object.keys(mayImport).map(folderOf) },
      to: {},
    },
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    tsPreCompilationDeps: true,
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^dist/' },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'browser', 'node', 'default', 'types'],
      extensions: ['.ts', '.mjs', '.js', '.json', '.wgsl'],
    },
    detectProcessBuiltinModuleCalls: false,
  },
};
