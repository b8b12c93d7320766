package kms

import (
	"crypto/rand"
	"encoding/json"
	"slices"
	"strings"
)

// Limits and names of the real service.
const (
	maxPlaintext  = 4096
	maxCiphertext = 6144
	maxDataKey    = 1024
	symmetric     = "SYMMETRIC_DEFAULT"
)

type keyMetadata struct {
	AWSAccountID          string `json:"AWSAccountId"`
	KeyID                 string `json:"KeyId"`
	Arn                   string
	CreationDate          float64 // seconds since 1970
	Enabled               bool
	Description           string
	KeyUsage              string
	KeyState              string
	Origin                string
	KeyManager            string
	CustomerMasterKeySpec string
	KeySpec               string
	EncryptionAlgorithms  []string
	MultiRegion           bool
}

func (s *Server) describeKey(body []byte) (any, *apiError) {
	var in struct{ KeyId string }
	if fail := decode(body, &in); fail != nil {
		return nil, fail
	}
	if fail := s.find(in.KeyId); fail != nil {
		return nil, fail
	}
	return struct{ KeyMetadata keyMetadata }{keyMetadata{
		AWSAccountID:          s.account,
		KeyID:                 s.key.ID,
		Arn:                   s.KeyARN(),
		CreationDate:          float64(s.key.Created.Unix()),
		Enabled:               true,
		Description:           "made by a stand-in for AWS KMS",
		KeyUsage:              "ENCRYPT_DECRYPT",
		KeyState:              "Enabled",
		Origin:                "AWS_KMS",
		KeyManager:            "CUSTOMER",
		CustomerMasterKeySpec: symmetric,
		KeySpec:               symmetric,
		EncryptionAlgorithms:  []string{symmetric},
	}}, nil
}

type encryptOutput struct {
	CiphertextBlob      []byte
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm string
}

func (s *Server) encrypt(body []byte) (any, *apiError) {
	var in struct {
		KeyId               string
		Plaintext           []byte
		EncryptionContext   map[string]string
		EncryptionAlgorithm string
	}
	if fail := decode(body, &in); fail != nil {
		return nil, fail
	}
	if n := len(in.Plaintext); n < 1 || n > maxPlaintext {
		return nil, newError("ValidationException", "Plaintext must be 1 to 4096 bytes")
	}
	if fail := s.usable(in.KeyId, in.EncryptionAlgorithm); fail != nil {
		return nil, fail
	}
	blob, err := s.key.seal(in.Plaintext, in.EncryptionContext)
	if err != nil {
		return nil, internalError()
	}
	return encryptOutput{blob, s.KeyARN(), symmetric}, nil
}

type decryptOutput struct {
	Plaintext           []byte
	KeyID               string `json:"KeyId"`
	EncryptionAlgorithm string
}

func (s *Server) decrypt(body []byte) (any, *apiError) {
	var in struct {
		KeyId               string // may be left out: the blob names its key
		CiphertextBlob      []byte
		EncryptionContext   map[string]string
		EncryptionAlgorithm string
	}
	if fail := decode(body, &in); fail != nil {
		return nil, fail
	}
	if n := len(in.CiphertextBlob); n < 1 || n > maxCiphertext {
		return nil, newError("ValidationException", "CiphertextBlob must be 1 to 6144 bytes")
	}
	sealer, err := blobKeyID(in.CiphertextBlob)
	if err != nil {
		return nil, newError("InvalidCiphertextException", "the ciphertext is not valid")
	}
	if in.KeyId != "" || in.EncryptionAlgorithm != "" {
		name := in.KeyId
		if name == "" {
			name = s.key.ID
		}
		if fail := s.usable(name, in.EncryptionAlgorithm); fail != nil {
			return nil, fail
		}
		if sealer != s.key.ID {
			return nil, newError("IncorrectKeyException", "the ciphertext was made by another key than KeyId names")
		}
	}
	plaintext, err := s.key.open(in.CiphertextBlob, in.EncryptionContext)
	if err != nil {
		return nil, newError("InvalidCiphertextException", "the ciphertext is not valid")
	}
	return decryptOutput{plaintext, s.KeyARN(), symmetric}, nil
}

type dataKeyOutput struct {
	CiphertextBlob []byte
	Plaintext      []byte
	KeyID          string `json:"KeyId"`
}

func (s *Server) generateDataKey(body []byte) (any, *apiError) {
	var in struct {
		KeyId             string
		KeySpec           string
		NumberOfBytes     int
		EncryptionContext map[string]string
	}
	if fail := decode(body, &in); fail != nil {
		return nil, fail
	}
	size := in.NumberOfBytes
	switch {
	case (in.KeySpec == "") == (in.NumberOfBytes == 0):
		return nil, newError("ValidationException", "give either KeySpec or NumberOfBytes")
	case in.KeySpec == "AES_256":
		size = 32
	case in.KeySpec == "AES_128":
		size = 16
	case in.KeySpec != "":
		return nil, newError("ValidationException", "KeySpec must be AES_256 or AES_128")
	case size < 1 || size > maxDataKey:
		return nil, newError("ValidationException", "NumberOfBytes must be 1 to 1024")
	}
	if fail := s.find(in.KeyId); fail != nil {
		return nil, fail
	}
	plaintext := make([]byte, size)
	rand.Read(plaintext)
	blob, err := s.key.seal(plaintext, in.EncryptionContext)
	if err != nil {
		return nil, internalError()
	}
	return dataKeyOutput{blob, plaintext, s.KeyARN()}, nil
}

// usable checks the key's name and the algorithm asked for.
func (s *Server) usable(keyID, algorithm string) *apiError {
	if algorithm != "" && algorithm != symmetric {
		return newError("InvalidKeyUsageException", "the key only does "+symmetric)
	}
	return s.find(keyID)
}

// find wants any of the key's names: id, ARN, alias, or an alias's ARN.
func (s *Server) find(name string) *apiError {
	if name == "" {
		return newError("ValidationException", "KeyId must not be empty")
	}
	bare := name
	if strings.HasPrefix(name, "arn:") {
		if bare = strings.TrimPrefix(name, s.arn("")); bare == name {
			return newError("NotFoundException", "the ARN names another region, account or service")
		}
		if id, ok := strings.CutPrefix(bare, "key/"); ok {
			bare = id
		}
	}
	if bare == s.key.ID || slices.Contains(s.aliases, bare) {
		return nil
	}
	if strings.HasPrefix(bare, "alias/") {
		return newError("NotFoundException", "the alias is not found")
	}
	return newError("NotFoundException", "the key is not found")
}

func decode(body []byte, into any) *apiError {
	if err := json.Unmarshal(body, into); err != nil {
		return newError("SerializationException", "the request is not valid JSON for this operation")
	}
	return nil
}
