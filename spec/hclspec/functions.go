package hclspec

import (
	"fmt"
	"math/big"
	"net/netip"
	"path/filepath"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are what every expression of a spec may call, besides file(), which
// depends on where the expression stands.
func functions(opts Options) map[string]function.Function {
	return map[string]function.Function{
		"abs": stdlib.AbsoluteFunc, "ceil": stdlib.CeilFunc, "floor": stdlib.FloorFunc,
		"max": stdlib.MaxFunc, "min": stdlib.MinFunc, "parseint": stdlib.ParseIntFunc,
		"pow": stdlib.PowFunc, "signum": stdlib.SignumFunc,

		"chomp": stdlib.ChompFunc, "format": stdlib.FormatFunc, "formatlist": stdlib.FormatListFunc,
		"indent": stdlib.IndentFunc, "join": stdlib.JoinFunc, "lower": stdlib.LowerFunc,
		"regex": stdlib.RegexFunc, "regexall": stdlib.RegexAllFunc, "replace": stdlib.ReplaceFunc,
		"split": stdlib.SplitFunc, "strlen": stdlib.StrlenFunc, "substr": stdlib.SubstrFunc,
		"title": stdlib.TitleFunc, "trim": stdlib.TrimFunc, "trimprefix": stdlib.TrimPrefixFunc,
		"trimspace": stdlib.TrimSpaceFunc, "trimsuffix": stdlib.TrimSuffixFunc, "upper": stdlib.UpperFunc,
		"regex_replace": stdlib.RegexReplaceFunc,

		"chunklist": stdlib.ChunklistFunc, "coalesce": stdlib.CoalesceFunc, "coalescelist": stdlib.CoalesceListFunc,
		"compact": stdlib.CompactFunc, "concat": stdlib.ConcatFunc, "contains": stdlib.ContainsFunc,
		"distinct": stdlib.DistinctFunc, "element": stdlib.ElementFunc, "flatten": stdlib.FlattenFunc,
		"index": stdlib.IndexFunc, "keys": stdlib.KeysFunc, "length": stdlib.LengthFunc,
		"lookup": stdlib.LookupFunc, "merge": stdlib.MergeFunc, "range": stdlib.RangeFunc,
		"reverse": stdlib.ReverseListFunc, "setintersection": stdlib.SetIntersectionFunc,
		"setproduct": stdlib.SetProductFunc, "setsubtract": stdlib.SetSubtractFunc, "setunion": stdlib.SetUnionFunc,
		"slice": stdlib.SliceFunc, "sort": stdlib.SortFunc, "values": stdlib.ValuesFunc, "zipmap": stdlib.ZipmapFunc,

		"csvdecode": stdlib.CSVDecodeFunc, "jsondecode": stdlib.JSONDecodeFunc, "jsonencode": stdlib.JSONEncodeFunc,
		"tobool": stdlib.MakeToFunc(cty.Bool), "tonumber": stdlib.MakeToFunc(cty.Number), "tostring": stdlib.MakeToFunc(cty.String),
		"tolist": stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap":  stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"toset":  stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"try":    tryfunc.TryFunc, "can": tryfunc.CanFunc,

		"cidrhost": cidrHostFunction(),
		"env":      envFunction(opts.Env),
	}
}

// outside marks values that came from the environment or from a file, so that
// they are told from a secret that the spec spells out.
const outside mark = "outside"

// sensitive marks the values of sensitive variables.
const sensitive mark = "sensitive"

type mark string

func envFunction(lookup func(string) (string, bool)) function.Function {
	return function.New(&function.Spec{
		Description: "the value of an environment variable, or of the second argument when it is not set",
		Params:      []function.Parameter{{Name: "name", Type: cty.String}},
		VarParam:    &function.Parameter{Name: "default", Type: cty.String},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if len(args) > 2 {
				return cty.NilVal, function.NewArgErrorf(2, "env takes a name and at most one default")
			}
			name := args[0].AsString()
			if lookup != nil {
				if value, found := lookup(name); found {
					return cty.StringVal(value).Mark(outside), nil
				}
			}
			if len(args) == 2 {
				return args[1], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "environment variable %s is not set; export it, or give a default: env(%q, \"...\")", name, name)
		},
	})
}

// maxIncludedBytes bounds what file() brings into a spec, which is replicated.
const maxIncludedBytes = 1 << 20

// fileFunction reads files relative to the directory of the spec file name.
func fileFunction(name string, read func(string) ([]byte, error)) function.Function {
	return function.New(&function.Spec{
		Description: "the text of a file, whose path is relative to the spec file",
		Params:      []function.Parameter{{Name: "path", Type: cty.String}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path := args[0].AsString()
			if path == "" {
				return cty.NilVal, function.NewArgErrorf(0, "the path is empty")
			}
			if read == nil {
				return cty.NilVal, function.NewArgErrorf(0, "no file can be read here")
			}
			if !filepath.IsAbs(path) {
				path = filepath.Join(filepath.Dir(name), path)
			}
			text, err := read(path)
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "%v; the path is relative to the spec file", err)
			}
			if len(text) > maxIncludedBytes || !utf8.Valid(text) {
				return cty.NilVal, function.NewArgErrorf(0, "%s is not a text file of at most 1 MB", path)
			}
			return cty.StringVal(string(text)).Mark(outside), nil
		},
	})
}

func cidrHostFunction() function.Function {
	return function.New(&function.Spec{
		Description: "the n-th address of a network",
		Params:      []function.Parameter{{Name: "prefix", Type: cty.String}, {Name: "n", Type: cty.Number}},
		Type:        function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			prefix, err := netip.ParsePrefix(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgErrorf(0, "write a network such as \"10.0.0.0/24\"")
			}
			n, accuracy := args[1].AsBigFloat().Int(nil)
			if accuracy != big.Exact {
				return cty.NilVal, function.NewArgErrorf(1, "must be a whole number")
			}
			address, err := addressIn(prefix.Masked(), n)
			if err != nil {
				return cty.NilVal, function.NewArgError(1, err)
			}
			return cty.StringVal(address.String()), nil
		},
	})
}

// addressIn counts from the network's first address, or from the one after its
// last when n is negative.
func addressIn(network netip.Prefix, n *big.Int) (netip.Addr, error) {
	size := new(big.Int).Lsh(big.NewInt(1), uint(network.Addr().BitLen()-network.Bits()))
	offset := new(big.Int).Set(n)
	if n.Sign() < 0 {
		offset.Add(offset, size)
	}
	if offset.Sign() < 0 || offset.Cmp(size) >= 0 {
		return netip.Addr{}, fmt.Errorf("%s has no address number %s", network, n)
	}
	base := new(big.Int).SetBytes(network.Addr().AsSlice())
	raw := base.Add(base, offset).FillBytes(make([]byte, network.Addr().BitLen()/8))
	address, _ := netip.AddrFromSlice(raw)
	return address, nil
}
