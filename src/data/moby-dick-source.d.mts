/** Types of moby-dick-source.mjs. */
export declare function mobyDickText(packageDir: string): string;
