import { Component, type ComponentType } from "preact";

/** Renders again only when a property is another one: lists of hundreds stay cheap. */
export function memo<P extends object>(Inner: ComponentType<P>): ComponentType<P> {
  return class Memo extends Component<P> {
    override shouldComponentUpdate(next: Readonly<P>): boolean {
      const now = this.props as Record<string, unknown>;
      return Object.entries(next).some(([name, value]) => now[name] !== value);
    }

    override render() {
      return <Inner {...this.props} />;
    }
  };
}
